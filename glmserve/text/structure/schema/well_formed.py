"""Checks that a schema is one by the standard."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from glmserve.text.structure.schema.modern import modern
from glmserve.text.structure.schema.problem import SchemaError
from glmserve.text.structure.schema.subschemas import LIST, NAMED, ONE
from glmserve.text.structure.schema.values import MALFORMED

Schema = dict[str, Any] | bool


def well_formed(
    schema: Any, place: str = "", malformed: Callable[[str], None] | None = None
) -> Schema:
    """The schema in draft 2020-12, checked apart from the schemas within it.

    Args:
        malformed: called with each malformed keyword, which is then left out; None: it is an error.

    Raises:
        SchemaError: the schema is none.
    """
    if isinstance(schema, bool):
        return schema
    if not isinstance(schema, dict):
        raise SchemaError(place, "must be an object, true or false")
    result = modern(schema)
    for keyword, value in list(result.items()):
        problem = _problem(keyword, value)
        if problem is None:
            continue
        if malformed is None:
            raise SchemaError(place, f"{keyword} {problem}")
        malformed(keyword)
        del result[keyword]
    return result


def _problem(keyword: str, value: Any) -> str | None:
    if keyword in NAMED:
        if not isinstance(value, dict):
            return "must be an object of schemas"
        bad = next((name for name, one in value.items() if not isinstance(one, dict | bool)), None)
        return None if bad is None else f"has {bad!r}, which must be an object, true or false"
    if keyword in ONE:
        return None if isinstance(value, dict | bool) else "must be an object, true or false"
    if keyword in LIST:
        good = isinstance(value, list) and value and all(isinstance(v, dict | bool) for v in value)
        return None if good else "must be a list of one schema or more"
    check = MALFORMED.get(keyword)
    return check(value) if check else None
