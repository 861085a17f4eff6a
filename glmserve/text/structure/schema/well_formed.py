"""Checks that a schema is one by the standard."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from glmserve.text.structure.schema.modern import modern
from glmserve.text.structure.schema.problem import SchemaError
from glmserve.text.structure.schema.subschemas import LIST, NAMED, ONE
from glmserve.text.structure.schema.values import MALFORMED

Schema = dict[str, Any] | bool


DEPENDENT = {
    "properties": "additionalProperties",
    "patternProperties": "additionalProperties",
    "prefixItems": "items",
}
"""A keyword that speaks of the rest, by the keyword that says what is no rest. Without the latter,
it would forbid too much."""

Malformed = Callable[..., None]
"""Called with the path of something malformed that is left out."""


def well_formed(schema: Any, place: str = "", malformed: Malformed | None = None) -> Schema:
    """The schema in draft 2020-12, checked apart from the schemas within it.

    Args:
        malformed: called with the path of what is malformed: a keyword, which is left out, or a
            keyword and a name, whose schema becomes `true`. None: it is an error.

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
        if problem is None or keyword not in result:
            continue
        if malformed is None:
            raise SchemaError(place, f"{keyword} {problem}")
        if keyword in NAMED and isinstance(value, dict):
            result[keyword] = _good_members(keyword, value, malformed)
        else:
            for left_out in (keyword, DEPENDENT.get(keyword)):
                if left_out in result:
                    malformed(left_out)
                    del result[left_out]
    return result


def _good_members(keyword: str, members: dict[str, Any], malformed: Malformed) -> dict[str, Any]:
    bad = [name for name, member in members.items() if not isinstance(member, dict | bool)]
    for name in bad:
        malformed(keyword, name)
    return {**members, **dict.fromkeys(bad, True)}


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
