"""Schemas are honoured or refused by name."""

from __future__ import annotations

from typing import Any

import pytest

from glmserve.errors import InvalidRequestError
from glmserve.text.structure import checked_schema
from glmserve.text.structure.json_schema import MAX_DEPTH, MAX_PROPERTIES


def body(schema: Any) -> dict[str, Any]:
    checked = checked_schema(schema)
    assert checked.pop("x-guidance")["whitespace_pattern"]
    return checked


REFUSED: list[tuple[Any, str]] = [
    ({"not": {}}, "the keyword not is"),
    ({"if": {}, "then": {}}, "the keyword if is"),
    ({"type": "object", "patternProperties": {"a": {}}}, "patternProperties"),
    ({"properties": {"a": {"minLenght": 3}}}, "/properties/a: the keyword minLenght"),
    ({"propertyNames": {}}, "propertyNames"),
    ({"dependentRequired": {}}, "dependentRequired"),
    ({"contains": {}}, "contains"),
    ({"unevaluatedProperties": False}, "unevaluatedProperties"),
    ({"nullable": True}, "nullable"),
    ({"x-guidance": {"lenient": True}}, "x-guidance"),
    ({"uniqueItems": True}, "uniqueItems is not supported"),
    ({"type": "text"}, "type must be"),
    ({"type": []}, "type must be"),
    ({"enum": []}, "enum must be"),
    ({"enum": "a"}, "enum must be"),
    ({"const": "a\x00b"}, r"control character U\+0000"),
    ({"const": 2**60}, r"2\*\*53"),
    ({"minLength": -1}, "minLength must be"),
    ({"minItems": True}, "minItems must be"),
    ({"maxLength": 10**9}, "maxLength must be"),
    ({"minimum": "1"}, "minimum must be a number"),
    ({"exclusiveMinimum": True}, "exclusiveMinimum must be a number"),
    ({"multipleOf": 0}, "multipleOf must be a number greater"),
    ({"multipleOf": 1000003}, "multipleOf must have"),
    ({"pattern": 3}, "pattern must be"),
    ({"pattern": "a" * 2000}, "pattern must be"),
    ({"format": "color"}, "format must be one of date-time"),
    ({"required": "a"}, "required must be"),
    ({"properties": []}, "must be an object of schemas"),
    ({"properties": {str(i): {} for i in range(MAX_PROPERTIES + 1)}}, "at most 500"),
    ({"items": [{}]}, "/items: must be an object, true or false"),
    ({"items": 3}, "/items: must be"),
    ({"anyOf": []}, "anyOf must be a list"),
    ({"$ref": "https://example.com/schema"}, "must point into this schema"),
    ({"$ref": "#/$defs/none"}, "leads to no schema"),
    ({"$ref": "#/title", "title": {}}, "leads to no schema"),
    ({"$defs": {"a": {"$id": "x"}}}, r"\$id is only"),
    ({"$defs": {"a": {"$anchor": "x"}}}, r"\$anchor"),
    ({"title": "\ud800"}, "lone surrogate"),
    ({"title": "x" * 70_000}, "at most 65536"),
    ([], "must be an object, true or false"),
    ("string", "must be an object, true or false"),
    (None, "must be an object, true or false"),
    ({"const": float("inf")}, "is not JSON"),
]


@pytest.mark.parametrize(("schema", "problem"), REFUSED, ids=[problem for _, problem in REFUSED])
def test_refused_by_name(schema: Any, problem: str) -> None:
    with pytest.raises(InvalidRequestError, match=problem):
        checked_schema(schema)


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


NEVER = [
    False,
    {"$ref": "#"},
    {"anyOf": [False]},
    {"type": "object", "properties": {"a": {"$ref": "#"}}, "required": ["a"]},
    {"type": "array", "items": {"$ref": "#"}, "minItems": 1},
    {"type": "array", "prefixItems": [{"$ref": "#"}], "minItems": 1},
    {"type": "object", "required": ["a"], "additionalProperties": False},
    {"$ref": "#/$defs/a", "$defs": {"a": {"$ref": "#/$defs/b"}, "b": {"$ref": "#/$defs/a"}}},
]


@pytest.mark.parametrize("schema", NEVER, ids=str)
def test_schemas_without_finite_values_are_refused(schema: Any) -> None:
    with pytest.raises(InvalidRequestError, match="no finite JSON value"):
        checked_schema(schema)


def test_recursion_that_can_end_is_fine() -> None:
    for schema in (
        {"anyOf": [{"type": "null"}, {"type": "array", "items": {"$ref": "#"}, "minItems": 1}]},
        {"type": "object", "properties": {"a": {"$ref": "#"}}},
    ):
        assert body(schema) == schema


def test_annotations_are_left_out_but_not_properties_of_their_names() -> None:
    schema = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": "https://example.com/x",
        "title": "X",
        "description": "an x",
        "x-order": 3,
        "properties": {"title": {"type": "string", "default": "a", "examples": ["b"]}},
    }
    assert body(schema) == {"properties": {"title": {"type": "string"}}}


def test_true_is_any_json() -> None:
    assert body(True) == {}


def test_the_users_schema_is_not_changed() -> None:
    schema = {"oneOf": [{"type": "string"}, {"type": "null"}]}
    checked_schema(schema)
    assert schema == {"oneOf": [{"type": "string"}, {"type": "null"}]}


def tagged(value: Any) -> dict[str, Any]:
    return {"type": "object", "properties": {"kind": {"const": value}}, "required": ["kind"]}


EXCLUSIVE = [
    [{"type": "string"}, {"type": "integer"}, {"type": ["null", "boolean"]}],
    [{"const": 1}, {"enum": [2, True]}],
    [{"const": "a"}, {"type": "integer"}],
    [tagged("a"), tagged("b"), {"type": "null"}],
    [tagged("a"), {"type": "object", "additionalProperties": False}],
    [{"$ref": "#/$defs/cat"}, {"$ref": "#/$defs/dog"}],
]
OVERLAPPING = [
    [{"type": "integer"}, {"type": "number"}],
    [{"type": "string"}, {"type": "string", "maxLength": 3}],
    [{"enum": [1, 2]}, {"enum": [2, 3]}],
    [{"const": 1}, {"const": 1.0}],
    [tagged("a"), tagged("a")],
    [tagged("a"), {"type": "object"}],
    [{}, {"type": "null"}],
    [True, {"type": "null"}],
    [{"$ref": "#/$defs/cat"}, {"$ref": "#/$defs/cat"}],
]
ANIMALS = {"cat": tagged("cat"), "dog": tagged("dog")}


@pytest.mark.parametrize("alternatives", EXCLUSIVE, ids=str)
def test_one_of_exclusive_alternatives_is_any_of(alternatives: list[Any]) -> None:
    checked = body({"oneOf": alternatives, "$defs": ANIMALS})
    assert checked == {"anyOf": alternatives, "$defs": ANIMALS}


@pytest.mark.parametrize("alternatives", OVERLAPPING, ids=str)
def test_one_of_others_is_refused(alternatives: list[Any]) -> None:
    with pytest.raises(InvalidRequestError, match="oneOf may both match"):
        checked_schema({"oneOf": alternatives, "$defs": ANIMALS})


def test_one_of_beside_any_of() -> None:
    one, any_ = [{"type": "string"}, {"type": "null"}], [{"const": "a"}]
    assert body({"oneOf": one, "anyOf": any_}) == {"anyOf": any_, "allOf": [{"anyOf": one}]}


def test_references_may_be_escaped() -> None:
    schema = {"$ref": "#/$defs/a~1b%20c", "$defs": {"a/b c": {"type": "null"}}}
    assert body(schema) == schema
