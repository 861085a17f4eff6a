"""Random schemas of all keywords: what is accepted under the guarantee is valid to jsonschema."""

from __future__ import annotations

import random
from typing import Any

import jsonschema
import pytest

from glmserve.errors import InvalidRequestError
from glmserve.text.structure.json_schema import converted_schema
from glmserve.text.structure.schema.leniency import Leniency
from glmserve.text.structure.schema.limits import TYPES
from support.schema_engine import Accepting

SCHEMAS = 400
INSTANCES: list[Any] = [
    *(None, True, False, 0, 1, 2, 3, 1.5, -1, "", "a", "b", "ab"),
    *([], [1], [1, 2], ["a"], [1, 1], [[]], [{}], [{"a": 1}], [1, "a"], [2, 3, 5]),
    *({}, {"a": 1}, {"b": 2}, {"a": 1, "b": 2}, {"a": "a"}, {"a": None, "b": "b"}, {"c": 3}),
    *({"a": 1, "c": "x"}, {"a": {}}, {"a": {"a": 1}}, {"a": [1]}, {"ab": 1}),
]
NAMES = "abc"
LEAVES: dict[str, list[Any]] = {
    "type": [*TYPES, ["string", "null"], ["object", "array"]],
    "const": INSTANCES,
    "enum": [INSTANCES[i : i + 3] for i in range(0, len(INSTANCES), 2)],
    "minimum": [0, 1, 1.5],
    "maximum": [0, 2, 0.5],
    "exclusiveMinimum": [0, 1],
    "exclusiveMaximum": [1, 2, 0.5],
    "multipleOf": [2, 1, 0.5],
    "minLength": [0, 1, 2],
    "maxLength": [0, 1, 2],
    "pattern": ["^a", "b$", "^ab?$", "^(?!a).*$"],
    "minItems": [0, 1, 2],
    "maxItems": [0, 1, 2],
    "minProperties": [0, 1, 2],
    "maxProperties": [0, 1, 2],
    "required": [["a"], ["a", "b"], ["c"]],
    "dependentRequired": [{"a": ["b"]}, {"b": ["c"]}],
    "uniqueItems": [True, False],
    "format": ["date", "int32"],
}
LISTS = ("oneOf", "anyOf", "allOf", "prefixItems")
SINGLES = (
    *("not", "items", "contains", "additionalProperties", "propertyNames"),
    *("unevaluatedItems", "unevaluatedProperties"),
)
NAMED = {
    "properties": NAMES,
    "dependentSchemas": NAMES,
    "patternProperties": ["^a", "b$", "^(a|b)$", ".*"],
}


def random_schema(rng: random.Random, depth: int = 0) -> Any:
    """A schema; it need not be satisfiable."""
    if rng.random() < 0.04:
        return rng.random() < 0.7
    schema: dict[str, Any] = {}
    for _ in range(rng.choice((1, 1, 2, 3))):
        schema |= _keywords(rng, depth)
    return schema


def _keywords(rng: random.Random, depth: int) -> dict[str, Any]:
    def inner() -> Any:
        return random_schema(rng, depth + 1)

    if depth > 2 or rng.random() < 0.45:
        keyword = rng.choice([*LEAVES])
        return {keyword: rng.choice(LEAVES[keyword])}
    keyword = rng.choice((*LISTS, *SINGLES, *SINGLES, *NAMED, "if"))
    if keyword == "if":
        return {"if": inner(), "then": inner(), "else": inner()}
    if keyword in LISTS:
        return {keyword: [inner() for _ in range(rng.randint(1, 3))]}
    if keyword in NAMED:
        return {keyword: {name: inner() for name in rng.sample([*NAMED[keyword]], 2)}}
    return {keyword: inner()}


@pytest.mark.parametrize("block", range(4))
def test_what_is_accepted_is_valid(block: int) -> None:
    size, num_honoured, num_accepted, num_valid = SCHEMAS // 4, 0, 0, 0
    for seed in range(block * size, (block + 1) * size):
        schema = random_schema(random.Random(seed))
        try:
            accepts = Accepting(schema)
        except InvalidRequestError:
            continue
        num_honoured += 1
        validator = jsonschema.Draft202012Validator(schema)
        for instance in INSTANCES:
            is_valid = validator.is_valid(instance)
            num_valid += is_valid
            if accepts(instance):
                num_accepted += 1
                assert is_valid, (schema, instance)
    assert num_honoured > size * 0.6, "most schemas are meant to be honoured"
    assert num_accepted > num_valid * 0.85, "most valid instances are meant to be accepted"


JUNK: list[Any] = [
    *(None, True, 0, -1, 10**40, 1e-300, "", "x", "#", "#/x", "^(", "(?=", "\\", "é", "http://["),
    *([], [1], [None], [[]], [{}], {}, {"a": 3}, {"$ref": 3}, {"properties": {"": {}}}),
]
ODD_PLACES = (
    *("$ref", "$id", "id", "$anchor", "$dynamicRef", "items", "nullable", "additionalItems"),
    *("dependencies", "exclusiveMinimum", "required", "type", "format", "$defs", "minContains"),
)


def damaged(value: Any, rng: random.Random) -> Any:
    """The value with some junk in it."""
    if isinstance(value, list):
        return [damaged(member, rng) for member in value]
    if not isinstance(value, dict):
        return value
    result = {}
    for name, member in value.items():
        chance = rng.random()
        if chance < 0.12:
            result[name] = rng.choice(JUNK)
        elif chance < 0.16:
            result[rng.choice(ODD_PLACES)] = rng.choice((rng.choice(JUNK), member))
        else:
            result[name] = damaged(member, rng)
    return result


@pytest.mark.parametrize("leniency", Leniency)
def test_damaged_schemas_are_converted_or_refused(leniency: Leniency) -> None:
    outcomes = set()
    for seed in range(500):
        rng = random.Random(seed)
        schema = damaged({"allOf": [random_schema(rng)], "$defs": {"x": random_schema(rng)}}, rng)
        try:
            converted_schema(schema, leniency, is_guarded=True)
            outcomes.add(True)
        except InvalidRequestError:
            outcomes.add(False)
    assert outcomes == {True, False}
