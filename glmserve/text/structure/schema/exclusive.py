"""Decides whether two schemas exclude each other, so that oneOf equals anyOf."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

Schema = dict[str, Any] | bool
Target = Callable[[Schema], Schema]
"""Follows a schema's $ref, if it consists of that alone. True if the target is unknown."""

_MAX_DEPTH = 20
_MAX_STEPS = 200
"""Pairs that are compared for one decision. Beyond it, schemas count as overlapping."""


def are_exclusive(one: Schema, other: Schema, target: Target) -> bool:
    """Whether types, values, bounds, or a required property show that no value matches both."""
    return _Comparison(target).are_exclusive(one, other)


class _Comparison:
    def __init__(self, target: Target) -> None:
        self._target = target
        self._steps = 0
        self._depth = 0

    def are_exclusive(self, one: Schema, other: Schema) -> bool:
        self._steps += 1
        if self._steps > _MAX_STEPS or self._depth > _MAX_DEPTH:
            return False
        self._depth += 1
        try:
            return self._exclude(self._target(one), self._target(other))
        finally:
            self._depth -= 1

    def _exclude(self, one: Schema, other: Schema) -> bool:
        if one is False or other is False:
            return True
        if isinstance(one, bool) or isinstance(other, bool):
            return False
        return (
            _values_exclude(one, other)
            or self._required_exclude(one, other)
            or self._parts_exclude(one, other)
            or self._parts_exclude(other, one)
        )

    def _parts_exclude(self, one: dict[str, Any], other: dict[str, Any]) -> bool:
        """Whether a part that each value of `one` matches excludes `other`."""
        parts = [{"$ref": one["$ref"]}] if "$ref" in one and len(one) > 1 else []
        parts += one.get("allOf", [])
        if any(self.are_exclusive(part, other) for part in parts):
            return True
        return any(
            all(self.are_exclusive(option, other) for option in one[keyword])
            for keyword in ("anyOf", "oneOf")
            if keyword in one
        )

    def _required_exclude(self, one: dict[str, Any], other: dict[str, Any]) -> bool:
        """Whether both are objects, and a required property cannot match both."""
        if not _types(one) == _types(other) == {"object"}:
            return False
        names = {*one.get("required", ()), *other.get("required", ())}
        return any(self.are_exclusive(_property(one, n), _property(other, n)) for n in names)


def _property(schema: dict[str, Any], name: str) -> Schema:
    others = True if schema.get("patternProperties") else schema.get("additionalProperties", True)
    member: Schema = schema.get("properties", {}).get(name, others)
    return member


def _values_exclude(one: dict[str, Any], other: dict[str, Any]) -> bool:
    values = _values(one), _values(other)
    if values[0] is not None and values[1] is not None:
        return not any(_same(a, b) for a in values[0] for b in values[1])
    types = _types(one), _types(other)
    if types[0] is not None and types[1] is not None and not types[0] & types[1]:
        return True
    return types[0] == types[1] == {"number"} and (_is_below(one, other) or _is_below(other, one))


def _is_below(one: dict[str, Any], other: dict[str, Any]) -> bool:
    """Whether all numbers of `one` are less than those of `other`."""
    high = min((one[key] for key in ("maximum", "exclusiveMaximum") if key in one), default=None)
    low = max((other[key] for key in ("minimum", "exclusiveMinimum") if key in other), default=None)
    return high is not None and low is not None and high < low


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
