"""unevaluatedProperties and unevaluatedItems."""

from __future__ import annotations

from typing import Any

import jsonschema
import pytest

from glmserve.text.structure import checked_schema
from support.schema_engine import Accepting

A, B = {"properties": {"a": {"const": 1}}}, {"properties": {"b": {"const": 2}}}
CLOSED = {"type": "object", "unevaluatedProperties": False}

CASES: list[tuple[Any, list[Any], list[Any]]] = [
    ({**CLOSED, **A}, [{"a": 1}, {}], [{"b": 1}, {"a": 2}]),
    ({**CLOSED, "allOf": [A, B]}, [{"a": 1, "b": 2}], [{"c": 1}, {"a": 1, "c": 1}]),
    ({**CLOSED, "$ref": "#/$defs/a", "$defs": {"a": A}}, [{"a": 1}], [{"b": 2}]),
    (
        {**CLOSED, "anyOf": [{**A, "required": ["a"]}, {**B, "required": ["b"]}]},
        [{"a": 1}, {"b": 2}],
        [{"a": 1, "c": 2}, {}],
    ),
    ({**CLOSED, "if": {**A, "required": ["a"]}, "then": B}, [{"a": 1, "b": 2}, {}], [{"b": 2}]),
    (
        {**CLOSED, **A, "dependentSchemas": {"a": B}},
        [{"a": 1, "b": 2}, {}],
        [{"b": 2}, {"a": 1, "c": 2}],
    ),
    ({"unevaluatedProperties": {"type": "null"}, **A}, [{"a": 1, "z": None}], [{"z": 1}]),
    ({**CLOSED, "patternProperties": {"^x": {}}}, [{"x1": 1}], [{"a": 1}]),
    ({**CLOSED, "allOf": [{"additionalProperties": True}]}, [{"z": 1}], [1]),
    ({"unevaluatedProperties": True}, [{"z": 1}], []),
    ({"prefixItems": [{"const": 1}], "unevaluatedItems": False}, [[1], []], [[1, 2]]),
    (
        {"type": "array", "contains": {"const": 1}, "unevaluatedItems": {"const": 2}},
        [[1], [1, 2], [2, 1, 1]],
        [[], [2], [1, 3]],
    ),
    ({"dependentSchemas": {"a": {"items": {}}}, "unevaluatedItems": False}, [[], {}], [[1]]),
]


@pytest.mark.parametrize(("schema", "good", "bad"), CASES, ids=lambda case: str(case)[:60])
def test_unevaluated(schema: Any, good: list[Any], bad: list[Any]) -> None:
    accepts, validator = Accepting(schema), jsonschema.Draft202012Validator(schema)
    for instance in good:
        assert validator.is_valid(instance) and accepts(instance), instance
    for instance in bad:
        assert not validator.is_valid(instance) and not accepts(instance), instance


def test_recursion_ends() -> None:
    """A schema that refers to itself in place has ways without end; the engine refuses it."""
    a = {"anyOf": [{"$ref": "#/$defs/a"}, {"allOf": [{"$ref": "#/$defs/a"}] * 3}, A, B]}
    assert checked_schema({**CLOSED, "$ref": "#/$defs/a", "$defs": {"a": a}})
