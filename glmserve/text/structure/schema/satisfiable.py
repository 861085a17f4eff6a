"""Decides whether a finite value can match a schema, following its references."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from glmserve.text.structure.schema.problem import SchemaError
from glmserve.text.structure.schema.references import target_pointer

Schema = dict[str, Any] | bool

_MAX_PASSES = 64


def has_finite_value(schema: Schema, at: Mapping[str, Schema]) -> bool:
    """Whether a finite value may match: False if every value would have to contain itself.

    This is a necessary condition only. Contradicting bounds and patterns are found when the grammar
    is compiled.

    Args:
        at: schema by JSON pointer, for $refs.

    Raises:
        SchemaError: the references are nested too deeply to decide.
    """
    finite: set[str] = set()
    for _ in range(_MAX_PASSES):
        unknown = (place for place in at if place not in finite)
        found = {place for place in unknown if _is_finite(at[place], finite)}
        if not found:
            return _is_finite(schema, finite)
        finite |= found
    raise SchemaError("", "its references lead too far; nest them less")


def _is_finite(schema: Schema, finite: set[str]) -> bool:
    """Like `has_finite_value`. The schemas at the pointers in `finite` are known to be finite."""
    if isinstance(schema, bool):
        return schema
    return (
        ("$ref" not in schema or target_pointer(schema["$ref"]) in finite)
        and all(_is_finite(part, finite) for part in schema.get("allOf", ()))
        and ("anyOf" not in schema or any(_is_finite(part, finite) for part in schema["anyOf"]))
        and any(_type_is_finite(name, schema, finite) for name in _types(schema))
    )


def _types(schema: dict[str, Any]) -> list[str]:
    names = schema.get("type", ["null", "array", "object"])
    return names if isinstance(names, list) else [names]


def _type_is_finite(name: str, schema: dict[str, Any], finite: set[str]) -> bool:
    if name == "object":
        properties = schema.get("properties", {})
        other = schema.get("additionalProperties", True)
        return all(
            _is_finite(properties.get(required, other), finite)
            for required in schema.get("required", ())
        )
    if name == "array":
        least = schema.get("minItems", 0)
        prefix = schema.get("prefixItems", [])
        needed = prefix[:least] + [schema.get("items", True)] * (least > len(prefix))
        return all(_is_finite(item, finite) for item in needed)
    return True
