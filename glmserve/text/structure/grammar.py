"""Writes structures as grammars for llguidance."""

from __future__ import annotations

import json
from typing import Any, NamedTuple

from llguidance import regex_to_lark

from glmserve.errors import InvalidRequestError
from glmserve.text.structure.embedded_schema import EmbeddedSchemas, keyword_name
from glmserve.text.structure.json_schema import checked_schema, converted_schema
from glmserve.text.structure.json_text import JsonUse, UniqueStrings, unique_strings
from glmserve.text.structure.lark_source import check_length, embedded
from glmserve.text.structure.schema.leniency import Leniency
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
    json: JsonUse
    dropped: tuple[str, ...] = ()
    """Keywords of schemas that are left out; see `keyword_name`."""
    unique: UniqueStrings = ()
    """Arrays whose strings must differ."""


class _Rules(NamedTuple):
    """The rules that define the body of a structure."""

    text: str
    is_terminal: bool = False
    dropped: tuple[str, ...] = ()
    unique: UniqueStrings = ()


def grammar_text(
    structure: Structure, lead_in: str = "", left_out: frozenset[str] = frozenset()
) -> GrammarText:
    """The grammar of a structure.

    Args:
        lead_in: a regex of whitespace before the text.
        left_out: keywords that schemas leave out, if they need not be guaranteed as a whole.

    Raises:
        InvalidRequestError: the structure is malformed, too large, or cannot be honoured.
    """
    rules = _rules(structure, left_out)
    # Free text may begin with whitespace anyway.
    lead = "" if isinstance(structure, Without) else lead_in

    def text(opening: str) -> str:
        # Within a terminal the regexes form one automaton. Unlike a greedy lexer it handles a body
        # that itself begins with whitespace.
        opened = f"OPENING {_BODY}" if opening else _BODY
        terminal = rules.is_terminal
        start = f"start: TEXT\nTEXT: {opened.upper()}\n" if terminal else f"start: {opened}\n"
        return _HEADER + start + (f"OPENING: /{opening}/\n" if opening else "") + rules.text

    plain = text(f"(?:{lead})" if lead else "")
    return GrammarText(
        plain, text(f" (?:{lead})"), _json_use(structure), rules.dropped, rules.unique
    )


def _json_use(structure: Structure) -> JsonUse:
    if isinstance(structure, Lark) and structure.may_be_json:
        return JsonUse.IF_OPENED
    return JsonUse.ALL if isinstance(structure, JsonObject | JsonSchema) else JsonUse.NONE


def _rules(structure: Structure, left_out: frozenset[str]) -> _Rules:
    match structure:
        case JsonObject():
            return _json({"type": "object"}, Leniency.NOTHING, left_out)
        case JsonSchema(schema, strict, part):
            leniency = Leniency.NOTHING if strict else Leniency.UNSUPPORTED
            return _json(schema, leniency, left_out, part)
        case Grammar(text):
            check_length(text)
            lark = _from_gbnf(text) if "::=" in text else text
            return _Rules(embedded(lark, _BODY, checked_schema))
        case Lark(text):
            schemas = EmbeddedSchemas(left_out)
            own = embedded(text, _BODY, schemas)
            dropped = tuple(dict.fromkeys(schemas.dropped))
            return _Rules(own, dropped=dropped, unique=unique_strings(schemas.unique))
        case Regex(pattern):
            return _Rules(f"{_BODY.upper()}: /{_lark_regex(pattern)}/\n", is_terminal=True)
        case Choice(options):
            alternatives = _alternatives(options, "choices")
            return _Rules(f"{_BODY.upper()}: {alternatives}\n", is_terminal=True)
        case Without(words):
            rules = (
                f"{_BODY.upper()}: /(?s:.*)/ & ~HAS_WORD\n"
                "HAS_WORD: /(?s:.*)/ WORD /(?s:.*)/\n"
                f"WORD: {_alternatives(words, 'words')}\n"
            )
            return _Rules(rules, is_terminal=True)


def _json(schema: Any, leniency: Leniency, left_out: frozenset[str], part: str = "") -> _Rules:
    converted = converted_schema(schema, leniency, left_out, is_guarded=True, part=part)
    dropped = tuple(keyword_name("", pointer) for pointer in converted.dropped)
    rule = f"{_BODY}: %json {json.dumps(converted.schema)}\n"
    return _Rules(rule, dropped=dropped, unique=unique_strings(converted.unique))


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
