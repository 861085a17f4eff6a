"""Writes structures as grammars for llguidance."""

from __future__ import annotations

import json
from typing import Any, NamedTuple

from llguidance import regex_to_lark

from glmserve.errors import InvalidRequestError
from glmserve.text.structure.json_schema import checked_schema, lenient_schema
from glmserve.text.structure.lark_source import embedded
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

MAX_PATTERN = 10_000
MAX_CHOICES = 1000
MAX_CHOICE_TEXT = 64 * 1024
"""Characters of all choices together, or of all forbidden words."""

_BODY = "structure_body"

_HEADER = '%llguidance {"no_forcing": true}\n'
"""Allows every tokenization of the text. llguidance then never asks for the canonical one, which
would call Python."""


class GrammarText(NamedTuple):
    """The two grammars of a structure."""

    plain: str
    after_space: str
    """The grammar behind a space that the tokenizer drops, for first tokens that begin with it."""
    is_json: bool
    """Whether the text is one JSON value."""


def grammar_text(structure: Structure, lead_in: str = "") -> GrammarText:
    """The grammar of a structure.

    Args:
        lead_in: a regex of whitespace before the text.

    Raises:
        InvalidRequestError: the structure is malformed, too large, or cannot be honoured.
    """
    is_terminal, rules = _rules(structure)
    # Free text may begin with whitespace anyway.
    lead = "" if isinstance(structure, Without) else lead_in

    def text(opening: str) -> str:
        # Within a terminal the regexes form one automaton. Unlike a greedy lexer it handles a body
        # that itself begins with whitespace.
        opened = f"OPENING {_BODY}" if opening else _BODY
        start = f"start: TEXT\nTEXT: {opened.upper()}\n" if is_terminal else f"start: {opened}\n"
        return _HEADER + start + (f"OPENING: /{opening}/\n" if opening else "") + rules

    is_json = isinstance(structure, JsonObject | JsonSchema)
    return GrammarText(text(f"(?:{lead})" if lead else ""), text(f" (?:{lead})"), is_json)


def _rules(structure: Structure) -> tuple[bool, str]:
    """Whether the body is a terminal, and the rules that define it."""
    match structure:
        case JsonObject():
            return False, _json({"type": "object"})
        case JsonSchema(schema, strict):
            return False, _json(schema, strict=strict)
        case Grammar(text):
            return False, embedded(_from_gbnf(text) if "::=" in text else text, _BODY)
        case Lark(text):
            return False, embedded(text, _BODY, _own_schema)
        case Regex(pattern):
            return True, f"{_BODY.upper()}: /{_lark_regex(pattern)}/\n"
        case Choice(options):
            return True, f"{_BODY.upper()}: {_alternatives(options, 'choices')}\n"
        case Without(words):
            return True, (
                f"{_BODY.upper()}: /(?s:.*)/ & ~HAS_WORD\n"
                "HAS_WORD: /(?s:.*)/ WORD /(?s:.*)/\n"
                f"WORD: {_alternatives(words, 'words')}\n"
            )


def _json(schema: Any, *, strict: bool = True) -> str:
    checked = checked_schema(schema) if strict else lenient_schema(schema).schema
    return f"{_BODY}: %json {json.dumps(checked)}\n"


def _own_schema(schema: Any) -> dict[str, Any]:
    """The schema of one of glmserve's own `%json` rules, without its options for llguidance."""
    if not isinstance(schema, dict):
        return checked_schema(schema)
    own = dict(schema)
    return checked_schema(own, own.pop("x-guidance", None))


def _from_gbnf(text: str) -> str:
    from llguidance.gbnf_to_lark import gbnf_to_lark

    try:
        converted = gbnf_to_lark(text)
    except Exception as error:  # the converter raises bare Exceptions, IndexErrors and its own
        raise InvalidRequestError(f"the grammar is not understood: {error}") from None
    return converted.replace("%llguidance {}", "", 1)


def _lark_regex(pattern: str) -> str:
    if len(pattern) > MAX_PATTERN:
        raise InvalidRequestError(
            f"the regular expression has {len(pattern)} characters; at most {MAX_PATTERN} "
            "are allowed"
        )
    # The regex always matches the whole text, and llguidance's syntax has no anchors.
    pattern = pattern.removeprefix("^")
    if pattern.endswith("$") and (len(pattern) - len(pattern[:-1].rstrip("\\"))) % 2:
        pattern = pattern[:-1]
    if not pattern:
        raise InvalidRequestError("the regular expression is empty")
    _check_text(pattern, "the regular expression")
    return f"(?:{regex_to_lark(pattern, 'd')})"


def _alternatives(texts: tuple[str, ...], noun: str) -> str:
    if not texts or not all(texts):
        raise InvalidRequestError(f"there must be {noun}, and none of them empty")
    if len(texts) > MAX_CHOICES or sum(map(len, texts)) > MAX_CHOICE_TEXT:
        raise InvalidRequestError(
            f"too many {noun}: at most {MAX_CHOICES}, with {MAX_CHOICE_TEXT} characters together"
        )
    for text in texts:
        _check_text(text, f"one of the {noun}")
    return " | ".join(_lark_string(text) for text in dict.fromkeys(texts))


def _lark_string(text: str) -> str:
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")


def _check_text(text: str, what: str) -> None:
    try:
        text.encode()
    except UnicodeEncodeError:
        raise InvalidRequestError(f"{what} has a lone surrogate, which is no text") from None
