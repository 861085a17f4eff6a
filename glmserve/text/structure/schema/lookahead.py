"""Rewrites a pattern that begins with lookaheads as several patterns, which must all match.

`^(?=.*[0-9])(?!admin$).{5,}$` says three things about a text: it has a digit, it is not "admin",
and it has 5 characters or more. The grammar engine knows no lookahead, but it can hold all three.
"""

from __future__ import annotations

import re

from glmserve.text.structure.schema.complement import UnknownSyntaxError, complement
from glmserve.text.structure.schema.other_texts import other_beginnings, other_texts
from glmserve.text.structure.schema.pattern import (
    UnsupportedPatternError,
    check_length,
    finite_names,
)

_OPENING = re.compile(r"\(\?([=!])")
_PART = re.compile(r"\\.|\[(?:\\.|[^\]\\])*\]|.", re.DOTALL)
_TEMPERED = re.compile(r"\^\((?:\?:)?\(\?!(.*\))\.\)([*+])\$", re.DOTALL)
"""`^((?!x).)*$`: a text without x."""
_BEHIND = re.compile(r"(.*)\(\?<!((?:\\.|\[(?:\\.|[^\]\\])*\]|[^()\\\[\]])*)\)\$", re.DOTALL)
"""`...(?<!x)$`: a text that does not end in x."""

_DAYS = r"(?:\d+Y(?:\d+M)?(?:\d+D)?|\d+M(?:\d+D)?|\d+D)"
_SECONDS = r"\d+(?:[.,]\d+)?S"
_TIME = rf"T(?:\d+H(?:\d+M)?(?:{_SECONDS})?|\d+M(?:{_SECONDS})?|{_SECONDS})"
_DURATION = (
    r"^P(?:(\d+W)|(?!.*W)(?=\d|T\d)(\d+Y)?(\d+M)?(\d+D)?"
    r"(T(?=\d)(\d+H)?(\d+M)?(\d+([.,]\d+)?S)?)?)$"
)
"""zod's."""
_KNOWN = {_DURATION: rf"^P(?:\d+W|{_DAYS}(?:{_TIME})?|{_TIME})$"}
"""Patterns that libraries write, and the same without lookaheads."""


def conjunction(pattern: str) -> list[str]:
    """Patterns without leading lookaheads. A text that matches all matches this one, too.

    Raises:
        UnsupportedPatternError: it is too long, or a negative lookahead cannot be rewritten.
    """
    check_length(pattern)
    if pattern in _KNOWN:
        return [_KNOWN[pattern]]
    if match := _TEMPERED.fullmatch(pattern):
        body, rest = _group(match[1], 0)
        if not rest:
            return [f"^.{match[2]}$", _without(f".*(?:{body})")]
    before, pattern = _leading(pattern)
    after: list[str] = []
    if pattern.startswith("^"):
        after, pattern = _leading(pattern[1:])
        pattern = f"^{pattern}"
    elif before:
        raise UnsupportedPatternError("has a lookahead that is not at the beginning of the text")
    if match := _BEHIND.fullmatch(pattern):
        pattern = f"{match[1]}$"
        after.append(_without(f".*(?:{match[2]})$"))
    return [pattern, *before, *after]


def _leading(pattern: str) -> tuple[list[str], str]:
    """What the lookaheads at the beginning say as patterns, and the rest."""
    found = []
    while opening := _OPENING.match(pattern):
        body, pattern = _group(pattern, opening.end())
        found.append(f"^(?:{body})" if opening[1] == "=" else _without(body))
    return found, pattern


def _group(text: str, start: int) -> tuple[str, str]:
    """What a group contains, and what follows it."""
    depth, position = 1, start
    while match := _PART.match(text, position):
        position = match.end()
        depth += (match[0] == "(") - (match[0] == ")")
        if depth == 0:
            return text[start : position - 1], text[position:]
    raise UnsupportedPatternError("has a group without an end")


def _without(body: str) -> str:
    """A pattern of texts that do not begin as a regular expression says."""
    if body.endswith("$") and (names := finite_names(f"^{body.removeprefix('^')}")) is not None:
        return other_texts(names)
    for whole in (f"^{body}$", f"^(?:{body})$"):
        if (names := finite_names(whole)) is not None and all(names):
            return other_beginnings(names)
    try:
        found = complement(body)
    except UnknownSyntaxError:
        raise UnsupportedPatternError("has a negative lookahead that no grammar can hold") from None
    if found is None:
        raise UnsupportedPatternError("has a negative lookahead that forbids every text")
    return found
