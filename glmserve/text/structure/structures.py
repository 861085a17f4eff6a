"""What generated text can be held to."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class JsonObject:
    """Any JSON object."""


@dataclass(frozen=True)
class JsonSchema:
    """JSON that a schema accepts; `json_schema.py` says which keywords are known."""

    schema: Mapping[str, Any] | bool


@dataclass(frozen=True)
class Regex:
    """Text that a regular expression matches from its first to its last character.

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
    """A user's grammar: llguidance's dialect of Lark, or llama.cpp's GBNF, known by its `::=`."""

    text: str


@dataclass(frozen=True)
class Lark:
    """A grammar of our own making; its `%json` schemas may choose their whitespace."""

    text: str


@dataclass(frozen=True)
class Without:
    """Free text in which none of these words stands, however it is cut into tokens."""

    words: tuple[str, ...]


Structure = JsonObject | JsonSchema | Regex | Choice | Grammar | Lark | Without
