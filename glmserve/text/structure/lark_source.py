"""Rewrites a user's Lark grammar so that it can be embedded in another one.

Tokens are those of llguidance's lexer (parser/src/lark/lexer.rs). Strings, regexes and comments
stay unchanged.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any

from glmserve.errors import InvalidRequestError

MAX_TEXT = 64 * 1024

_TOKEN = re.compile(
    r"""
    (?P<comment> (?:\#|//)[^\n]* )
  | (?P<literal> "(?:\\.|[^"\\\n])*"i? | /(?:\\.|[^/\\\n])+/[imslux]* )
  | (?P<special> <[^<>\s]+> )
  | (?P<keyword> %[a-z]+ )
  | (?P<name> [A-Za-z_][A-Za-z0-9_\-]* )
  | (?P<other> . )
    """,
    re.VERBOSE | re.DOTALL,
)

_BLANKS = re.compile(r"\s*")

_BACKTRACKING = frozenset(("stop", "max_tokens", "temperature"))
"""Attributes of rules that would need to change the sampler or tokens already sent."""


def check_length(text: str) -> None:
    """Check the length of a user's grammar.

    Raises:
        InvalidRequestError: it is too long.
    """
    if len(text) > MAX_TEXT:
        raise InvalidRequestError(
            f"the grammar has {len(text)} characters; at most {MAX_TEXT} are allowed"
        )


def embedded(text: str, start: str, schemas: Callable[[Any], dict[str, Any]]) -> str:
    """The grammar with its rule `start` renamed, and its `%json` schemas converted.

    Args:
        start: the new name.
        schemas: checks and converts what follows `%json`.

    Raises:
        InvalidRequestError: the grammar has an unsupported feature, or a bad schema.
    """
    parts: list[str] = []
    position, has_start = 0, False
    while match := _TOKEN.match(text, position):
        position, part = match.end(), match[0]
        if match.lastgroup == "special":
            raise InvalidRequestError(f"the grammar: {part} is a special token, which is no text")
        if match.lastgroup == "keyword":
            _check_keyword(part)
            if part == "%json":
                schema, position = _schema(text, position)
                part = f"%json {json.dumps(schemas(schema))}"
        elif match.lastgroup == "name":
            _check_name(part, text, position)
            if part == "start":
                part, has_start = start, True
        parts.append(part)
    if not has_start:
        raise InvalidRequestError("the grammar has no rule `start` (`root` in GBNF)")
    return "".join(parts)


def _check_keyword(keyword: str) -> None:
    if keyword not in ("%json", "%ignore", "%import", "%regex"):
        raise InvalidRequestError(f"the grammar: {keyword} is not supported")


def _check_name(name: str, text: str, end: int) -> None:
    if name in _BACKTRACKING and text[end : end + 8].lstrip(" \t").startswith("="):
        raise InvalidRequestError(f"the grammar: the attribute {name}= is not supported")


def _schema(text: str, start: int) -> tuple[Any, int]:
    after_blanks = _BLANKS.match(text, start)
    assert after_blanks is not None
    try:
        schema, end = json.JSONDecoder().raw_decode(text, after_blanks.end())
    except (ValueError, RecursionError):
        raise InvalidRequestError("the grammar: %json must be followed by a schema") from None
    return schema, end
