# ruff: noqa: E501 (a table)
"""What schemas accept, keyword by keyword. The library jsonschema agrees on every instance."""

from __future__ import annotations

from typing import Any

import jsonschema
import pytest

from glmserve.text.structure.schema.leniency import Leniency
from support.schema_engine import Accepting

OBJECT = {"type": "object"}
AB = {"properties": {"a": {}, "b": {}}}
FORTY_TWO = {"const": 42}
TREE = {"t": {"type": "object", "properties": {"t": {"$ref": "#/$defs/t"}}}}

CASES: list[tuple[Any, list[Any], list[Any]]] = [
    # annotations and unknown keywords
    ({"id": 3, "self": {}, "name": "x", "ui:widget": 1, "example": 2}, [1, "a", {"b": None}], []),
    ({"type": "integer", "minLenght": 3, "x-guidance": {"lenient": True}}, [1], ["a"]),
    ({**OBJECT, "properties": {"title": {"type": "null"}}}, [{"title": None}], [{"title": 1}]),
    ({"format": "int32", "type": "integer"}, [2], ["2"]),
    ({"format": "starts_with", "type": "string"}, ["x"], [1]),
    # tuples
    ({"prefixItems": [{"const": 1}], "items": False}, [[1], []], [[2], [1, 1]]),
    ({"type": "array", "prefixItems": [{"const": 1}], "minItems": 2}, [[1, "x"]], [[1], [2, 1]]),
    # not
    ({"not": {"type": "string"}}, [1, None, [], {}], ["a"]),
    ({"not": {"enum": [1, "a", None, True]}}, [2, 1.5, "b", "", "ab", False, []], [1, "a", None]),
    ({"type": "object", "not": {"required": ["a"]}}, [{}, {"b": 1}], [{"a": 1}]),
    ({"not": {"not": FORTY_TWO}}, [42], [41, "42"]),
    ({"not": {"allOf": [{"minimum": 3}, {"maximum": 5}]}}, [2, 6], [3, 4, 5]),
    ({"not": {"anyOf": [{"type": "array"}, {"minLength": 2}]}}, ["a"], [[], "ab", {}]),
    ({"not": {"const": {"a": [1]}}}, [{}, {"a": [2]}, {"a": []}, 1], [{"a": [1]}]),
    ({"not": {"properties": {"a": {"type": "string"}}}}, [{"a": 1}], [{"a": "b"}, {}, 1]),
    ({"not": {"items": {"minimum": 3}}}, [[1], [5, 1]], [[], [3], 1]),
    ({"not": {"multipleOf": 3}}, [1, 2, 4], [0, 3, 6, "a"]),
    ({"not": {"$ref": "#/$defs/a"}, "$defs": {"a": {"type": ["null", "array"]}}}, [1], [None, []]),
    ({"not": {"$ref": "#/$defs/t"}, "$defs": TREE}, [1, {"t": 1}], [{}, {"t": {}}]),
    # oneOf
    ({"oneOf": [{"type": "integer"}, {"minimum": 2}]}, [1, "a"], [2, 1.5]),
    ({**OBJECT, "oneOf": [{"required": ["a"]}, {"required": ["b"]}]}, [{"a": 1}], [{}, {"a": 1, "b": 2}]),
    ({"oneOf": [{"enum": ["a", "b"]}, {"type": "string"}]}, ["c", "ab"], ["a", "b", 1]),
    ({"oneOf": [{"const": 1}, {"const": 2}], "anyOf": [{"minimum": 2}]}, [2], [1, 3]),
    # conditions
    (
        {**OBJECT, "if": {"properties": {"k": {"const": 1}}, "required": ["k"]}, "then": {"required": ["a"]}, "else": {"required": ["b"]}},
        [{"k": 1, "a": 0}, {"b": 1}],
        [{"k": 1, "b": 0}, {"a": 1}],
    ),
    ({**AB, "dependentRequired": {"a": ["b"]}}, [{"a": 1, "b": 1}, {"b": 1}, 3], [{"a": 1}]),
    ({"dependentSchemas": {"a": {"maxProperties": 1}}}, [{"a": 1}, {"b": 1}], [{"a": 1, "c": 2}]),
    # arrays
    ({"contains": FORTY_TWO}, [[42], [1, 42, 3], "x"], [[], [1]]),
    ({"contains": FORTY_TWO, "maxContains": 1}, [[42], [42, 1]], [[42, 42], []]),
    ({"contains": FORTY_TWO, "minContains": 2}, [[42, 42], [42, 42, 1]], [[42], [42, 1]]),
    ({"contains": FORTY_TWO, "minContains": 0}, [[], [1]], []),
    ({"type": "array", "items": {"enum": ["a", "b", "c"]}, "uniqueItems": True}, [[], ["c", "a"]], [["a", "a"]]),
    ({"type": "array", "items": {"type": "boolean"}, "uniqueItems": True, "minItems": 2}, [[True, False]], [[True], [True, True]]),
    ({"items": {"enum": [1]}, "uniqueItems": True, "maxItems": 10**40}, [[1], []], [[1, 1]]),
    ({"contains": FORTY_TWO, "maxContains": 10**40}, [[42], [42, 42]], [[]]),
    ({"type": "array", "items": {"enum": [1, 1.0, True, "1"]}, "uniqueItems": True}, [["1", 1]], [[1, 1], ["1", 1, 1]]),
    ({"uniqueItems": False}, [[1, 1]], []),
    ({"uniqueItems": True, "maxItems": 1}, [[1]], [[1, 1]]),
    # names
    ({"propertyNames": {"type": "string"}}, [{"a": 1}], []),
    ({"propertyNames": True}, [{"a": 1}], []),
    ({"propertyNames": {"pattern": "^a"}}, [{"ab": 1}, {}], [{"b": 1}]),
    ({"propertyNames": {"enum": ["x", "y"]}, "additionalProperties": FORTY_TWO}, [{"y": 42}], [{"z": 42}, {"x": 1}]),
    ({"propertyNames": {"maxLength": 2}}, [{"ab": 1}], [{"abc": 1}]),
    ({"propertyNames": {"not": {"const": "a"}}}, [{"b": 1}], [{"a": 1}]),
    ({"propertyNames": False}, [{}, 1], [{"a": 1}]),
    ({"patternProperties": {"^x-": FORTY_TWO}, "additionalProperties": False}, [{"x-a": 42}], [{"x-a": 1}, {"a": 42}]),
    ({"patternProperties": {"^(a|b)$": FORTY_TWO}}, [{"b": 42, "c": 1}], [{"a": 1}]),
    ({"patternProperties": {".*": FORTY_TWO}, "properties": {"a": {"minimum": 3}}}, [{"a": 42, "b": 42}], [{"b": 1}]),
    # numbers of properties
    ({"properties": {"a": {}, "b": {}, "c": {}}, "additionalProperties": False, "minProperties": 2}, [{"a": 1, "c": 1}], [{"b": 1}, {}]),
    ({"properties": {"a": {}, "b": {}, "c": {}}, "maxProperties": 1}, [{"b": 1}, {"z": 1}, {}], [{"a": 1, "c": 1}, {"a": 1, "z": 1}]),
    ({"properties": {"a": {}}, "minProperties": 1}, [{"a": 1}, {"z": 1}], [{}]),
    ({"properties": {"a": {}, "b": {}}, "required": ["a"], "minProperties": 1, "maxProperties": 2}, [{"a": 1, "b": 2}], [{"b": 2}]),
    # numbers
    ({"type": "integer", "minimum": -(2**63), "maximum": 2**63 - 1}, [0, 10**18, -(10**18)], [10**19]),
    ({"type": "integer", "exclusiveMaximum": 2**60 + 1}, [2**60], [2**60 + 1, 2**61]),
    ({"type": "number", "maximum": 1e300}, [1.5, -3], ["a"]),
    ({"type": "string", "maxLength": 2147483647}, ["abc"], []),
    ({"type": "integer", "minLength": 3.0}, [1], []),
]  # fmt: skip


@pytest.mark.parametrize(("schema", "good", "bad"), CASES, ids=lambda case: str(case)[:60])
def test_accepts_what_the_schema_says(schema: Any, good: list[Any], bad: list[Any]) -> None:
    accepts = Accepting(schema)
    validator = jsonschema.Draft202012Validator(schema)
    for instance in good:
        assert validator.is_valid(instance), "the case is wrong"
        assert accepts(instance), instance
    for instance in bad:
        assert not validator.is_valid(instance), "the case is wrong"
        assert not accepts(instance), instance


OLD: list[tuple[Any, Any, list[Any], list[Any]]] = [
    (
        jsonschema.Draft7Validator,
        {"type": "array", "items": [{"const": 1}, {"const": 2}], "additionalItems": False},
        [[1, 2], [1]],
        [[2], [1, 2, 3]],
    ),
    (
        jsonschema.Draft7Validator,
        {**AB, "dependencies": {"a": ["b"], "c": {"required": ["d"]}}},
        [{"a": 1, "b": 2}, {"d": 1, "c": 1}],
        [{"a": 1}, {"c": 1}],
    ),
    (
        jsonschema.Draft4Validator,
        {"type": "number", "minimum": 3, "exclusiveMinimum": True, "maximum": 5, "exclusiveMaximum": False},
        [4, 5],
        [3, 6],
    ),
    (
        jsonschema.Draft4Validator,
        {"$schema": "http://json-schema.org/draft-04/schema#", "id": "http://a.b/c", "items": {"$ref": "http://a.b/c#/definitions/n"}, "definitions": {"n": {"type": "null"}}},
        [[None]],
        [[1]],
    ),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "schema", "good", "bad"), OLD, ids=lambda case: str(case)[:60])
def test_older_drafts(kind: Any, schema: Any, good: list[Any], bad: list[Any]) -> None:
    accepts, validator = Accepting(schema), kind(schema)
    for instance in good:
        assert validator.is_valid(instance) and accepts(instance), instance
    for instance in bad:
        assert not validator.is_valid(instance) and not accepts(instance), instance


def test_nullable_of_openapi() -> None:
    accepts = Accepting({"type": "string", "nullable": True})
    assert accepts(None) and accepts("a") and not accepts(1)
    assert not Accepting({"type": "string", "nullable": False})(None)
    assert Accepting({"nullable": True})(3), "without a type it says nothing"


REFERENCES: list[tuple[Any, list[Any], list[Any]]] = [
    ({"properties": {"a": {"type": "null"}, "b": {"$ref": "#/properties/a"}}}, [{"b": None}], [{"b": 1}]),
    ({"$ref": "#/$defs/a~1b%20c", "$defs": {"a/b c": {"type": "null"}}}, [None], [1]),
    ({"$ref": "#/components/schemas/A", "components": {"schemas": {"A": {"type": "null"}}}}, [None], [1]),
    ({"$ref": "#here", "$defs": {"a": {"$anchor": "here", "type": "null"}}}, [None], [1]),
    ({"$id": "http://x.y/z", "$ref": "w", "$defs": {"a": {"$id": "w", "type": "null"}}}, [None], [1]),
    ({"$id": "http://x.y/z", "$ref": "/z#/$defs/a", "$defs": {"a": {"type": "null"}}}, [None], [1]),
    ({"$ref": "urn:a:b", "$defs": {"a": {"$id": "urn:a:b", "$ref": "#/$defs/c", "$defs": {"c": {"type": "null"}}}}}, [None], [1]),
    ({"anyOf": [{"type": "null"}, {"type": "array", "items": {"$ref": "#"}}]}, [None, [None, []]], [[1]]),
    ({"$dynamicRef": "#n", "$defs": {"a": {"$dynamicAnchor": "n", "type": "null"}}}, [None], [1]),
    ({"$ref": "#/$defs/a", "type": "integer", "$defs": {"a": {"minimum": 3}}}, [3], [2, "a"]),
]  # fmt: skip


@pytest.mark.parametrize(("schema", "good", "bad"), REFERENCES, ids=lambda case: str(case)[:60])
def test_references(schema: Any, good: list[Any], bad: list[Any]) -> None:
    accepts = Accepting(schema)
    assert all(map(accepts, good)) and not any(map(accepts, bad))


def test_unused_definitions_are_not_looked_at() -> None:
    assert Accepting({"type": "null", "$defs": {"a": {"pattern": "a(?!x)"}}})(None)


def test_the_users_schema_is_not_changed() -> None:
    schema = {
        "oneOf": [{"type": "string"}, {"items": [{}], "$ref": "#/$defs/a"}],
        "$defs": {"a": {}},
    }
    before = str(schema)
    Accepting(schema)
    assert str(schema) == before


def test_what_is_left_out_is_named() -> None:
    schema = {
        "properties": {
            "a/b": {"type": "string", "pattern": "a(?!x)", "minLength": 2},
            "c": {"type": "array", "items": {"$ref": "#/$defs/d"}},
        },
        "$defs": {"d": {"type": "array", "uniqueItems": True}},
    }
    accepts = Accepting(schema, Leniency.UNSUPPORTED)
    assert accepts.dropped == ("/properties/a~1b/pattern", "/$defs/d/uniqueItems")
    assert accepts({"a/b": "xx"}) and not accepts({"a/b": "x"}) and not accepts({"a/b": 1})


def test_what_speaks_of_the_rest_is_left_out_with_what_is_no_rest() -> None:
    """Otherwise nothing would be allowed but an empty object."""
    closed = {"additionalProperties": False, "patternProperties": {"a(?!b)": {}}}
    for schema in (closed, dict(reversed(closed.items()))):
        accepts = Accepting({"type": "object", **schema}, Leniency.UNSUPPORTED)
        assert accepts({"x": 1}) and not accepts([])
        assert accepts.dropped == ("/patternProperties", "/additionalProperties")
    damaged = {"additionalProperties": False, "properties": 3}
    assert Accepting(damaged, Leniency.MALFORMED)({"x": 1})
    part = {"additionalProperties": False, "properties": {"a/b": 3, "c": {"type": "null"}}}
    accepts = Accepting(part, Leniency.MALFORMED)
    assert accepts({"a/b": 1, "c": None}) and not accepts({"c": 1}) and not accepts({"d": 1})
    assert accepts.dropped == ("/properties/a~1b",)


def test_malformed_parts_of_a_one_of() -> None:
    options = [{"type": "dict"}, {"type": "null"}, {"not": {"type": "str"}}]
    accepts = Accepting({"oneOf": options}, Leniency.MALFORMED)
    assert accepts({}) and accepts.dropped == ("/oneOf",)


def test_a_one_of_that_cannot_be_guaranteed_becomes_any_of() -> None:
    options = [{"type": "string", "pattern": "a"}, {"type": "string", "pattern": "b"}]
    accepts = Accepting({"oneOf": options}, Leniency.UNSUPPORTED)
    assert accepts.dropped == ("/oneOf",)
    assert accepts("a") and accepts("b") and not accepts("c") and not accepts(1)


def test_keywords_that_are_null_are_absent() -> None:
    """Go's generators write null for an empty list. jsonschema refuses to read such a schema."""
    schema = {"required": None, "properties": {"a": {"enum": None, "type": "null"}}, "items": None}
    accepts = Accepting(schema)
    assert accepts({"a": None}) and accepts({})
    assert not accepts({"a": 1})
