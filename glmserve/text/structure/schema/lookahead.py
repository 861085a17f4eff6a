"""Rewrites a pattern that begins with lookaheads as several patterns, which must all match.

`^(?=.*[0-9])(?!admin$).{5,}$` says three things about a text: it has a digit, it is not "admin",
and it has 5 characters or more. The grammar engine knows no lookahead, but it can hold all three.
"""

from __future__ import annotations

import re

from glmserve.text.structure.schema.other_texts import other_beginnings, other_texts
from glmserve.text.structure.schema.pattern import UnsupportedPatternError, finite_names

_OPENING = re.compile(r"\(\?([=!])")
_PART = re.compile(r"\\.|\[(?:\\.|[^\]\\])*\]|.", re.DOTALL)
_SET = re.compile(r"\[(\^?)((?:\\.|[^\]\\])+)\]|\\([dDwWsS])")
_CONTAINED = re.compile(r"\.\*(\\[^\w\s]|[^\\^$.|?*+()\[\]{}])(\1)?")

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
        UnsupportedPatternError: a negative lookahead cannot be rewritten.
    """
    if pattern in _KNOWN:
        return [_KNOWN[pattern]]
    if not pattern.startswith("^(?"):
        return [pattern]
    found, rest = [], pattern[1:]
    while opening := _OPENING.match(rest):
        body, rest = _group(rest, opening.end())
        found.append(f"^(?:{body})" if opening[1] == "=" else _without(body))
    return [f"^{rest}", *found] if found else [pattern]


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
    if body.endswith("$") and (names := finite_names(f"^{body}")) is not None:
        return other_texts(names)
    for whole in (f"^{body}$", f"^(?:{body})$"):
        if (names := finite_names(whole)) is not None and all(names):
            return other_beginnings(names)
    if match := _CONTAINED.fullmatch(body):
        char, twice = match[1], match[2]
        return f"^(?:{char}?[^{char}])*{char}?$" if twice else f"^[^{char}]*$"
    if match := _SET.fullmatch(body):
        negation = "" if match[1] else "^"
        other = f"[{negation}{match[2]}]" if match[2] else f"\\{match[3].swapcase()}"
        return f"^(?:{other}|$)"
    raise UnsupportedPatternError("has a negative lookahead that no grammar can hold")
