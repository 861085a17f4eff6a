"""Decides whether a finite value can match a schema, following its references."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from glmserve.text.structure.schema.contradictions import contradiction
from glmserve.text.structure.schema.limits import TYPES
from glmserve.text.structure.schema.problem import SchemaError
from glmserve.text.structure.schema.references import target_pointer

Schema = dict[str, Any] | bool

_MAX_PASSES = 64


def finite_places(at: Mapping[str, Schema]) -> set[str]:
    """The places of schemas that a finite value may match.

    At other places every value would have to contain itself, or keywords contradict each other.
    This is a necessary condition only. Contradicting patterns are found when the grammar is
    compiled.

    Args:
        at: schema by JSON pointer, for $refs.

    Raises:
        SchemaError: the references are nested too deeply to decide.
    """
    finite: set[str] = set()
    for _ in range(_MAX_PASSES):
        unknown = (place for place in at if place not in finite)
        found = {place for place in unknown if is_finite(at[place], finite)}
        if not found:
            return finite
        finite |= found
    raise SchemaError("", "its references lead too far; nest them less")


def check_finite(schema: Schema, finite: set[str]) -> None:
    """Check that a finite value may match.

    Raises:
        SchemaError: none does; the message says why, if the schema's own keywords are the reason.
    """
    if is_finite(schema, finite):
        return
    known = schema if isinstance(schema, dict) else {}
    reasons = [contradiction(name, known) for name in _types(known)]
    reason = f": {reasons[0]}" if all(reasons) else ""
    raise SchemaError("", f"no finite JSON value fits it{reason}")


def without_infinite(schema: Schema, finite: set[str]) -> Schema:
    """The schema with false in the place of each part that no finite value matches.

    The engine refuses a schema as a whole if a definition matches nothing, even if no value needs
    it.
    """
    if isinstance(schema, bool) or not is_finite(schema, finite):
        return schema is True
    result = dict(schema)
    for keyword, value in schema.items():
        if keyword in ("items", "additionalProperties"):
            result[keyword] = without_infinite(value, finite)
        elif keyword in ("properties", "patternProperties"):
            result[keyword] = {name: without_infinite(one, finite) for name, one in value.items()}
        elif keyword in ("allOf", "prefixItems"):
            result[keyword] = [without_infinite(one, finite) for one in value]
        elif keyword == "anyOf":
            parts = [without_infinite(one, finite) for one in value]
            result[keyword] = [part for part in parts if part is not False]
    return result


def is_finite(schema: Schema, finite: set[str]) -> bool:
    """Whether a finite value may match, if one may at each of the places in `finite`."""
    if isinstance(schema, bool):
        return schema
    return (
        ("$ref" not in schema or target_pointer(schema["$ref"]) in finite)
        and all(is_finite(part, finite) for part in schema.get("allOf", ()))
        and ("anyOf" not in schema or any(is_finite(part, finite) for part in schema["anyOf"]))
        and any(_type_is_finite(name, schema, finite) for name in _types(schema))
    )


def _types(schema: dict[str, Any]) -> list[str]:
    names = schema.get("type", TYPES)
    return [names] if isinstance(names, str) else list(names)


def _type_is_finite(name: str, schema: dict[str, Any], finite: set[str]) -> bool:
    if contradiction(name, schema):
        return False
    if name == "object":
        properties = schema.get("properties", {})
        other = schema.get("additionalProperties", True)
        return all(
            is_finite(properties.get(required, other), finite)
            for required in schema.get("required", ())
        )
    if name == "array":
        least = schema.get("minItems", 0)
        prefix = schema.get("prefixItems", [])
        needed = prefix[:least] + [schema.get("items", True)] * (least > len(prefix))
        return all(is_finite(item, finite) for item in needed)
    return True
