"""Pieces of the grammars that a required call must match, in llguidance's dialect of Lark.

A JSON schema stands inside as `%json {...}`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from glmserve.text.tools.tool import Tool


def lark_string(text: str) -> str:
    """A literal; Lark's are written as JSON's."""
    return json.dumps(text, ensure_ascii=False)


_GUIDANCE = {"whitespace_pattern": " ", "json_allowed_escapes": 'nrbtf\\"'}
"""At most one blank between tokens: a model that likes blanks must not write them for ever. Every
character is written as itself, so no half of a surrogate pair can be."""


def json_rule(name: str, schema: Mapping[str, Any]) -> str:
    """A rule for JSON text of a schema."""
    return f"{name}: %json {json.dumps({**schema, 'x-guidance': _GUIDANCE}, ensure_ascii=False)}"


def arguments_rule(name: str, tool: Tool) -> str:
    """A rule for the JSON object of a tool's arguments.

    Raises:
        InvalidRequestError: the tool's parameters are not those of an object.
    """
    return json_rule(name, tool.schema())


def one_of(rule: str, member: str, count: int) -> str:
    """A rule that is any one of `member_0` and so on."""
    return f"{rule}: {' | '.join(f'{member}_{index}' for index in range(count))}"
