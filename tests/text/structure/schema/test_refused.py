"""What no grammar can hold, and what is no schema, is refused by name."""

from __future__ import annotations

from typing import Any

import pytest

from glmserve.errors import InvalidRequestError
from glmserve.text.structure import checked_schema
from glmserve.text.structure.json_schema import converted_schema
from glmserve.text.structure.schema.leniency import Leniency
from glmserve.text.structure.schema.limits import MAX_DEPTH, MAX_PROPERTIES, MAX_SCHEMAS

UNSUPPORTED: list[tuple[Any, str, str]] = [
    ({"not": {"pattern": "a"}}, "/not", "not has a schema whose complement is unknown"),
    ({"uniqueItems": True}, "/uniqueItems", "uniqueItems is only supported for"),
    (
        {"propertyNames": {"pattern": "^[ab]$"}, "minProperties": 2, "maxProperties": 2},
        "/minProperties",
        "could be written twice",
    ),
    ({"properties": {"a": {"uniqueItems": True}}}, "/properties/a/uniqueItems", "at /properties/a"),
    ({"pattern": "a(?!b)"}, "/pattern", "pattern has look-around"),
    ({"pattern": "(?<=a)b"}, "/pattern", "pattern has look-around"),
    ({"pattern": r"(a)\1"}, "/pattern", r"pattern has \\1"),
    ({"pattern": r"\bfoo"}, "/pattern", r"pattern has \\b"),
    ({"pattern": "a" * 5000}, "/pattern", "pattern has more than 4000"),
    ({"pattern": "a{100000}"}, "/pattern", "repeats something more than"),
    ({"patternProperties": {"^(?=x)": {}}}, "/patternProperties", "look-around"),
    ({"propertyNames": {"oneOf": [{}, {}]}}, "/propertyNames", "propertyNames is not"),
    ({"const": "a\x00b"}, "/const", r"control character U\+0000"),
    ({"const": 2**60}, "/const", r"2\*\*53"),
    ({"enum": ["a\x00"]}, "/enum", r"control character U\+0000"),
    ({"minLength": 10**9}, "/minLength", "minLength is more than"),
    ({"properties": {str(i): {} for i in range(MAX_PROPERTIES + 1)}}, "/properties", "500 names"),
    ({"oneOf": [{"minimum": i, "maximum": i} for i in range(201)]}, "/oneOf", "may both match"),
    ({"contains": {}, "minContains": 10**40}, "/contains", "has a minContains that is more than"),
    ({"minimum": 2**80}, "/minimum", "minimum is beyond"),
    ({"multipleOf": 1000003}, "/multipleOf", "multipleOf must have"),
    ({"$ref": "https://example.com/schema"}, "/$ref", "must point into this schema"),
    ({"$ref": "#/$defs/none"}, "/$ref", "leads to no schema"),
    ({"$ref": "#/title", "title": "x"}, "/$ref", "leads to no schema"),
    (
        {"oneOf": [{"type": "string", "pattern": "a"}, {"type": "string", "pattern": "b"}]},
        "/oneOf",
        "oneOf",
    ),
]


@pytest.mark.parametrize(
    ("schema", "pointer", "problem"), UNSUPPORTED, ids=lambda case: str(case)[:60]
)
def test_a_keyword_that_cannot_be_guaranteed(schema: Any, pointer: str, problem: str) -> None:
    with pytest.raises(InvalidRequestError, match=problem):
        checked_schema(schema)
    assert converted_schema(schema, Leniency.UNSUPPORTED).dropped == (pointer,)


MALFORMED: list[tuple[Any, str]] = [
    ({"type": "text"}, "type must be"),
    ({"type": []}, "type must be"),
    ({"enum": []}, "enum must be"),
    ({"enum": "a"}, "enum must be"),
    ({"minLength": -1}, "minLength must be"),
    ({"minItems": True}, "minItems must be"),
    ({"minimum": "1"}, "minimum must be a number"),
    ({"multipleOf": 0}, "multipleOf must be a number greater"),
    ({"pattern": 3}, "pattern must be"),
    ({"required": "a"}, "required must be"),
    ({"properties": []}, "must be an object of schemas"),
    ({"properties": {"a": 3}}, "has 'a', which must be an object"),
    ({"items": 3}, "items must be"),
    ({"anyOf": []}, "anyOf must be a list"),
    ({"not": 3}, "not must be"),
    ({"oneOf": [{}, {"items": {"type": "x"}}]}, "at /oneOf: within it, a schema type must be"),
    ({"anyOf": [{}] * MAX_SCHEMAS}, "more than 20000 schemas"),
    ({"title": "\ud800"}, "lone surrogate"),
    ([], "must be an object, true or false"),
    ("string", "must be an object, true or false"),
    (None, "must be an object, true or false"),
    ({"const": float("inf")}, "is not JSON"),
]


@pytest.mark.parametrize(("schema", "problem"), MALFORMED, ids=[p for _, p in MALFORMED])
def test_no_schema(schema: Any, problem: str) -> None:
    for leniency in (Leniency.NOTHING, Leniency.UNSUPPORTED):
        with pytest.raises(InvalidRequestError, match=problem):
            converted_schema(schema, leniency)


def test_depth_is_bounded() -> None:
    schema: Any = {}
    for _ in range(MAX_DEPTH + 1):
        schema = {"items": schema}
    with pytest.raises(InvalidRequestError, match="deep"):
        checked_schema(schema)
    for _ in range(5000):
        schema = [schema]
    with pytest.raises(InvalidRequestError, match="deep"):
        checked_schema({"const": schema})


def test_complements_do_not_grow_without_end() -> None:
    schema: Any = {"const": 1}
    for _ in range(7):
        schema = {"not": {"properties": {"a": schema, "b": schema}, "items": schema}}
    with pytest.raises(InvalidRequestError, match="not"):
        checked_schema(schema)


NEVER = [
    False,
    {"$ref": "#"},
    {"anyOf": [False]},
    {"not": {}},
    {"type": "object", "properties": {"a": {"$ref": "#"}}, "required": ["a"]},
    {"type": "array", "items": {"$ref": "#"}, "minItems": 1},
    {"type": "array", "prefixItems": [{"$ref": "#"}], "minItems": 1},
    {"type": "object", "required": ["a"], "additionalProperties": False},
    {"$ref": "#/$defs/a", "$defs": {"a": {"$ref": "#/$defs/b"}, "b": {"$ref": "#/$defs/a"}}},
    {"oneOf": [True, True]},
]


@pytest.mark.parametrize("schema", NEVER, ids=str)
def test_schemas_without_finite_values(schema: Any) -> None:
    for leniency in Leniency:
        with pytest.raises(InvalidRequestError, match="no finite JSON value"):
            converted_schema(schema, leniency)
