"""Decides whether the plain keywords of a schema contradict each other for a type of values."""

from __future__ import annotations

from typing import Any

from glmserve.text.structure.schema.values import is_number

_SIZES = {
    "string": ("minLength", "maxLength"),
    "array": ("minItems", "maxItems"),
    "object": ("minProperties", "maxProperties"),
}
_LOWER = ("minimum", "exclusiveMinimum")
_UPPER = ("maximum", "exclusiveMaximum")


def contradiction(name: str, schema: dict[str, Any]) -> str | None:
    """Why no value of a type matches the schema's listed values and bounds, if none does.

    Patterns and schemas within this one are not looked at.

    Args:
        name: of a type of JSON Schema.
    """
    if "const" in schema or "enum" in schema:
        values = [schema["const"]] if "const" in schema else schema["enum"]
        if any(_has_type(value, name) and _fits(value, schema) for value in values):
            return None
        return "the listed values have incompatible types, or are out of bounds"
    if name in _SIZES:
        return _crossed(schema, *_SIZES[name])
    if name not in ("integer", "number"):
        return None
    pairs = ((low, high) for low in _LOWER for high in _UPPER)
    return next((found for low, high in pairs if (found := _crossed(schema, low, high))), None)


def _crossed(schema: dict[str, Any], least: str, most: str) -> str | None:
    if least not in schema or most not in schema:
        return None
    low, high = schema[least], schema[most]
    if low > high:
        return f"{least} is greater than {most}"
    is_empty = low == high and "exclusive" in f"{least} {most}"
    return f"no number is between {least} and {most}" if is_empty else None


def _has_type(value: Any, name: str) -> bool:
    match name:
        case "null":
            return value is None
        case "boolean":
            return isinstance(value, bool)
        case "integer":
            return is_number(value) and value == int(value)
        case "number":
            return is_number(value)
    return isinstance(value, {"string": str, "array": list, "object": dict}[name])


def _fits(value: Any, schema: dict[str, Any]) -> bool:
    """Whether a listed value is within the bounds."""
    if is_number(value):
        return (
            schema.get("minimum", value) <= value <= schema.get("maximum", value)
            and ("exclusiveMinimum" not in schema or value > schema["exclusiveMinimum"])
            and ("exclusiveMaximum" not in schema or value < schema["exclusiveMaximum"])
        )
    for kind, (least, most) in _SIZES.items():
        if _has_type(value, kind):
            size = len(value)
            return bool(schema.get(least, size) <= size <= schema.get(most, size))
    return True
