"""Requests as pydantic models: every field is honoured, anything else is refused by name."""

from glmserve.api.protocol.base import StrictModel
from glmserve.api.protocol.chat import ChatCompletionRequest
from glmserve.api.protocol.completions import CompletionRequest
from glmserve.api.protocol.parsing import (
    parse_data,
    parse_large_request,
    parse_request,
)
from glmserve.api.protocol.sampling import GenerationRequest

__all__ = [
    "ChatCompletionRequest",
    "CompletionRequest",
    "GenerationRequest",
    "StrictModel",
    "parse_data",
    "parse_large_request",
    "parse_request",
]
