"""Checks that a schema is one by the standard."""

from __future__ import annotations

from typing import Any

from glmserve.text.structure.schema.limits import MAX_PROPERTIES
from glmserve.text.structure.schema.modern import modern
from glmserve.text.structure.schema.problem import SchemaError, escaped
from glmserve.text.structure.schema.subschemas import LIST, NAMED, ONE
from glmserve.text.structure.schema.values import MALFORMED

Schema = dict[str, Any] | bool


def well_formed(schema: Any, place: str) -> Schema:
    """The schema in draft 2020-12, checked apart from the schemas within it.

    Raises:
        SchemaError: it is none, or too many properties are listed.
    """
    if isinstance(schema, bool):
        return schema
    if not isinstance(schema, dict):
        raise SchemaError(place, "must be an object, true or false")
    result = modern(schema)
    for keyword, value in result.items():
        if problem := _problem(keyword, value):
            raise SchemaError(place, f"{keyword} {problem}")
        if keyword in NAMED:
            for name, member in value.items():
                if not isinstance(member, dict | bool):
                    where = f"{place}/{keyword}/{escaped(name)}"
                    raise SchemaError(where, "must be an object, true or false")
    return result


def _problem(keyword: str, value: Any) -> str | None:
    if keyword in NAMED:
        if not isinstance(value, dict):
            return "must be an object of schemas"
        if keyword == "properties" and len(value) > MAX_PROPERTIES:
            return f"has {len(value)} names; at most {MAX_PROPERTIES} are allowed"
        return None
    if keyword in ONE:
        return None if isinstance(value, dict | bool) else "must be an object, true or false"
    if keyword in LIST:
        good = isinstance(value, list) and value and all(isinstance(v, dict | bool) for v in value)
        return None if good else "must be a list of one schema or more"
    check = MALFORMED.get(keyword)
    return check(value) if check else None
