"""Rules for grammars of tool calls, in llguidance's dialect of Lark.

JSON schemas are embedded as `%json {...}`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from glmserve.text.tools.tool import Tool


def lark_string(text: str) -> str:
    """A Lark literal, which is written like a JSON string."""
    return json.dumps(text, ensure_ascii=False)


_GUIDANCE = {"whitespace_pattern": " ", "json_allowed_escapes": 'nrbtf\\"'}
"""Allow at most one blank between tokens, so that a model cannot write blanks without end. Without
\\u escapes it cannot write half of a surrogate pair."""


def json_rule(name: str, schema: Mapping[str, Any]) -> str:
    """A rule for JSON that matches a schema."""
    return f"{name}: %json {json.dumps({**schema, 'x-guidance': _GUIDANCE}, ensure_ascii=False)}"


def arguments_rule(name: str, tool: Tool) -> str:
    """A rule for the JSON object of a tool's arguments.

    Raises:
        InvalidRequestError: the tool's parameters are not a schema of an object.
    """
    return json_rule(name, tool.schema())


def one_of(rule: str, member: str, count: int) -> str:
    """A rule that matches one of `member_0`, `member_1`, ..."""
    return f"{rule}: {' | '.join(f'{member}_{index}' for index in range(count))}"
