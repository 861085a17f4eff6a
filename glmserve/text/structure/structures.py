"""The kinds of structures for generated text."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class JsonObject:
    """Any JSON object."""


@dataclass(frozen=True)
class JsonSchema:
    """JSON that matches a schema.

    Attributes:
        strict: refuse a schema that cannot be guaranteed. Otherwise keywords that no grammar can
            hold are left out.
        part: JSON pointer of the schema within `schema` that the JSON must match.
    """

    schema: Mapping[str, Any] | bool
    strict: bool = True
    part: str = ""


@dataclass(frozen=True)
class Regex:
    """Text that a regular expression matches as a whole.

    The syntax is that of Rust's regex crate: no look-around, no back-references. `\\d` is 0 to 9;
    `\\w` and `\\s` are Unicode's.
    """

    pattern: str


@dataclass(frozen=True)
class Choice:
    """One of these texts."""

    options: tuple[str, ...]


@dataclass(frozen=True)
class Grammar:
    """A user's grammar: llguidance's dialect of Lark, or llama.cpp's GBNF if it contains `::=`."""

    text: str


@dataclass(frozen=True)
class Lark:
    """A grammar made by glmserve. Its `%json` schemas are written by `embedded_schema`.

    Attributes:
        may_be_json: a text that begins with a brace or a bracket is one JSON value.
    """

    text: str
    may_be_json: bool = False


@dataclass(frozen=True)
class Without:
    """Free text that contains none of these words, in any tokenization."""

    words: tuple[str, ...]


Structure = JsonObject | JsonSchema | Regex | Choice | Grammar | Lark | Without
