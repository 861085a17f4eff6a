"""Rules for grammars of tool calls, in llguidance's dialect of Lark."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from glmserve.text.structure.embedded_schema import embedded_schema
from glmserve.text.structure.schema.leniency import Leniency
from glmserve.text.tools.tool import Tool


def lark_string(text: str) -> str:
    """A Lark literal, which is written like a JSON string."""
    return json.dumps(text, ensure_ascii=False)


_LAYOUT = {"whitespace_pattern": " "}
"""At most one blank between tokens, so that a model cannot write blanks without end."""


def json_rule(name: str, schema: Mapping[str, Any], tool: Tool, place: str = "") -> str:
    """A rule for JSON that matches a schema of a tool.

    Args:
        place: JSON pointer of the schema within the tool's parameters.
    """
    leniency = Leniency.NOTHING if tool.strict else Leniency.MALFORMED
    rule = embedded_schema(schema, name=tool.name, place=place, leniency=leniency, layout=_LAYOUT)
    return f"{name}: {rule}"


def arguments_rule(name: str, tool: Tool) -> str:
    """A rule for the JSON object of a tool's arguments.

    Raises:
        InvalidRequestError: the tool's parameters are not a schema of an object.
    """
    return json_rule(name, tool.schema(), tool)


def one_of(rule: str, member: str, count: int) -> str:
    """A rule that matches one of `member_0`, `member_1`, ..."""
    return f"{rule}: {' | '.join(f'{member}_{index}' for index in range(count))}"
