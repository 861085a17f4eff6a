"""Decides whether two schemas exclude each other, so that oneOf equals anyOf."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from glmserve.text.structure.refs import pointer

Schema = dict[str, Any] | bool

_MAX_REFS = 32
"""Maximum length of a chain of $refs; a longer one counts as unknown."""


def are_exclusive(one: Schema, other: Schema, at: Mapping[str, Schema]) -> bool:
    """Whether types, literal values, or a required property show that no value matches both.

    Args:
        one, other: checked schemas.
        at: schema by JSON pointer, for $refs.
    """
    one, other = _target(one, at), _target(other, at)
    if one is False or other is False:
        return True
    if one is True or other is True:
        return False
    values = _values(one), _values(other)
    if values[0] is not None and values[1] is not None:
        return not any(_same(a, b) for a in values[0] for b in values[1])
    types = _types(one), _types(other)
    if types[0] is not None and types[1] is not None and not types[0] & types[1]:
        return True
    if types[0] == types[1] == {"object"}:
        return any(
            _names_exclude(one, other, name, at)
            for name in {*one.get("required", ()), *other.get("required", ())}
        )
    return False


def _names_exclude(
    one: dict[str, Any], other: dict[str, Any], name: str, at: Mapping[str, Schema]
) -> bool:
    """Whether a required property cannot have the same value in both schemas."""
    pair = [
        schema.get("properties", {}).get(name, schema.get("additionalProperties", True))
        for schema in (one, other)
    ]
    first, second = (_target(schema, at) for schema in pair)
    if first is False or second is False:
        return True
    if first is True or second is True:
        return False
    values = _values(first), _values(second)
    if values[0] is None or values[1] is None:
        types = _types(first), _types(second)
        return types[0] is not None and types[1] is not None and not types[0] & types[1]
    return not any(_same(a, b) for a in values[0] for b in values[1])


def _target(schema: Schema, at: Mapping[str, Schema]) -> Schema:
    for _ in range(_MAX_REFS):
        if not isinstance(schema, dict) or set(schema) != {"$ref"}:
            return schema
        schema = at[pointer(schema["$ref"])]
    return True


def _values(schema: dict[str, Any]) -> list[Any] | None:
    if "const" in schema:
        return [schema["const"]]
    values: list[Any] | None = schema.get("enum")
    return values


def _types(schema: dict[str, Any]) -> set[str] | None:
    """Types of a schema's values ("number" includes integers), or None if they are unknown."""
    values = _values(schema)
    if values is not None:
        return {_type_of(value) for value in values}
    names = schema.get("type")
    if names is None:
        return None
    return {
        "number" if name == "integer" else name
        for name in (names if isinstance(names, list) else [names])
    }


def _type_of(value: Any) -> str:
    if value is None:
        return "null"
    for kind, name in (
        (bool, "boolean"),
        (int | float, "number"),
        (str, "string"),
        (list, "array"),
    ):
        if isinstance(value, kind):
            return name
    return "object"


def _same(one: Any, other: Any) -> bool:
    """Equality in JSON, where true does not equal 1."""
    return isinstance(one, bool) == isinstance(other, bool) and bool(one == other)
