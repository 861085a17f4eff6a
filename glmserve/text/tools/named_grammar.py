"""Grammars for calls of ChatGLM3 and GLM-4: a tool's name, a line break, its arguments.

ChatGLM3's arguments are Python keyword arguments in the order of the schema. Their values may be
JSON, which `read_python_call` accepts, or Python's own spelling, on which these models were
trained.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from glmserve.text.tools.grammar import arguments_rule, json_rule, lark_string, one_of
from glmserve.text.tools.python_call import FUNCTION, is_parameter_name
from glmserve.text.tools.tool import Tool

_ANNOTATIONS = {"title", "description", "default", "examples", "$schema", "$comment"}
_PLAIN_OBJECT = {"type", "properties", "required", "additionalProperties", "$defs", "definitions"}

_PYTHON_STRING = r"/'([^'\\\x00-\x1f\x7f]|\\[nrt'\"\\])*'/"


def json_call_grammar(
    tools: Sequence[Tool], *, or_text: bool = False, or_json: str | None = None
) -> str:
    """Lark grammar of one call of GLM-4.

    Args:
        or_text: also allow text that does not begin as a call.
        or_json: also allow JSON; see `embedded_schema`.

    Raises:
        InvalidRequestError: the parameters of a tool are not a schema of an object.
    """
    lines = _start("call", tools, or_text, or_json)
    for index, tool in enumerate(tools):
        lines.append(f"call_{index}: {lark_string(tool.name + chr(10))} args_{index}")
        lines.append(arguments_rule(f"args_{index}", tool))
    return "\n".join(lines)


def python_call_grammar(
    tools: Sequence[Tool], *, or_text: bool = False, or_json: str | None = None
) -> str:
    """Lark grammar of one call of ChatGLM3. The tokenizer adds a blank to each line of a call.

    Args:
        or_text: also allow text that does not begin as a call.
        or_json: also allow JSON; see `embedded_schema`.

    Raises:
        InvalidRequestError: the parameters of a tool are not a schema of an object.
    """
    lines = _start('" "? call', tools, or_text, or_json)
    for index, tool in enumerate(tools):
        head = f"{tool.name}\n ```python\n{FUNCTION}("
        lines.append(f'call_{index}: {lark_string(head)} args_{index} ")\\n```"')
        lines += _arguments(f"args_{index}", tool)
    return "\n".join(lines)


def _start(call: str, tools: Sequence[Tool], or_text: bool, or_json: str | None) -> list[str]:
    """The rules for `start` and `call`."""
    members = one_of("call", "call", len(tools))
    if or_json is not None:
        return [f"start: {call} | answer", members, f"answer: {or_json}"]
    if not or_text:
        return [f"start: {call}", members]
    names = "|".join(re.escape(tool.name) for tool in tools)
    text = f"TEXT: /(?s:.*)/ & ~/\\s*({names})\\s*\\n(?s:.*)/"
    return [f"start: {call} | TEXT", members, text]


def _arguments(rule: str, tool: Tool) -> list[str]:
    schema = tool.schema()
    if not _is_signature(schema):
        return [f'{rule}: "**" {rule}_all', arguments_rule(f"{rule}_all", tool)]
    properties: Mapping[str, Any] = schema.get("properties", {})
    required = [name in schema.get("required", ()) for name in properties]
    definitions: dict[str, Any] = {
        key: schema[key] for key in ("$defs", "definitions") if key in schema
    }
    lines = []
    for number, (name, kind) in enumerate(properties.items()):
        value = f"{rule}_value_{number}"
        lines += _value(value, kind, definitions, tool, f"/properties/{name}")
        lines.append(f"{rule}_{number}: {lark_string(name + '=')} {value}")
    return [*_list_rules(rule, required), *lines]


def _is_signature(schema: Mapping[str, Any]) -> bool:
    """Whether the schema only lists arguments and the schema of each.

    Invalid schemas are refused elsewhere, by `checked_schema`.
    """
    properties, required = schema.get("properties", {}), schema.get("required", [])
    return (
        schema.keys() <= _PLAIN_OBJECT | _ANNOTATIONS
        and schema.get("additionalProperties") is False
        and isinstance(properties, dict)
        and all(map(is_parameter_name, properties))
        and all(isinstance(schema, dict | bool) for schema in properties.values())
        and isinstance(required, list)
        and all(isinstance(name, str) and name in properties for name in required)
        and not _refers_to_root(properties)
    )


def _refers_to_root(value: Any) -> bool:
    """Whether a $ref points into the schema outside of its definitions.

    Such a reference would break, because each argument gets a schema of its own.
    """
    if isinstance(value, list):
        return any(map(_refers_to_root, value))
    if not isinstance(value, dict):
        return False
    target = value.get("$ref")
    moves = isinstance(target, str) and not target.startswith(("#/$defs/", "#/definitions/"))
    return moves or any(map(_refers_to_root, value.values()))


def _list_rules(rule: str, required: Sequence[bool]) -> list[str]:
    """Rules for a list of arguments in order, separated by commas. Optional ones may be missing.

    `first_i` is the list from argument i on if none has been written before, `more_i` if one has.
    """
    lines = [f"{rule}: {rule}_first_0"]
    for index, needed in enumerate(required):
        this, first, more = (f"{rule}_{kind}{index}" for kind in ("", "first_", "more_"))
        next_first, next_more = f"{rule}_first_{index + 1}", f"{rule}_more_{index + 1}"
        lines.append(f"{first}: {this} {next_more}" + ("" if needed else f" | {next_first}"))
        separated = f'", " {this}'
        lines.append(f"{more}: {separated if needed else f'({separated})?'} {next_more}")
    return [*lines, *(f'{rule}_{kind}_{len(required)}: ""' for kind in ("first", "more"))]


def _value(
    rule: str, schema: Any, definitions: Mapping[str, Any], tool: Tool, place: str
) -> list[str]:
    """Rules for one argument's value: JSON, or Python's spelling if it differs."""
    if isinstance(schema, bool):
        schema = {} if schema else {"enum": []}
    spelt = " | ".join((f"{rule}_json", *_python_spellings(schema)))
    return [f"{rule}: {spelt}", json_rule(f"{rule}_json", {**schema, **definitions}, tool, place)]


def _python_spellings(schema: Mapping[str, Any]) -> list[str]:
    says = schema.keys() - _ANNOTATIONS
    values = schema.get("enum", [schema["const"]] if "const" in schema else None)
    if isinstance(values, list) and says <= {"type", "enum", "const"}:
        return [lark_string(repr(value)) for value in values if isinstance(value, str | bool)]
    if says == {"type"} and schema["type"] == "string":
        return [_PYTHON_STRING]
    if says == {"type"} and schema["type"] == "boolean":
        return ['"True"', '"False"']
    return []
