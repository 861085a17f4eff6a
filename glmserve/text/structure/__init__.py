"""Structured output: text that must match a JSON schema, regex, choice or grammar."""

from glmserve.text.structure.allowed_tokens import AllowedTokens
from glmserve.text.structure.compiler import StructureCompiler
from glmserve.text.structure.constraint import CompiledStructure, ConstraintError
from glmserve.text.structure.json_schema import checked_schema
from glmserve.text.structure.structures import (
    Choice,
    Grammar,
    JsonObject,
    JsonSchema,
    Lark,
    Regex,
    Structure,
    Without,
)

__all__ = [
    "AllowedTokens",
    "Choice",
    "CompiledStructure",
    "ConstraintError",
    "Grammar",
    "JsonObject",
    "JsonSchema",
    "Lark",
    "Regex",
    "Structure",
    "StructureCompiler",
    "Without",
    "checked_schema",
]
