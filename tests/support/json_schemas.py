"""Schemas at random, from every keyword that structured output knows; all can be satisfied."""

from __future__ import annotations

import random
from typing import Any

VALUES: list[Any] = [
    *("a", 'b"q\\', "é\n", "", "汉字", 1, -2, 1.5, True, None),
    *([1, "x"], {"k": 1, "z": []}),
]
PATTERNS = ["^[a-z]{2,4}$", r"^\d{3}-\d{4}$", "ab+c", "^(foo|bar)", "[0-9]$"]
FORMATS = "date time date-time duration email hostname ipv4 ipv6 uuid uri".split()
DEFINITIONS = {
    "tree": {
        "type": "object",
        "properties": {
            "value": {"type": "integer"},
            "kids": {"type": "array", "items": {"$ref": "#/$defs/tree"}, "maxItems": 2},
        },
        "required": ["value"],
        "additionalProperties": False,
    },
    "leaf": {"type": "string", "maxLength": 3},
}


def random_schema(seed: int) -> Any:
    """A schema, or true; the same for the same seed."""
    schema = _Generator(random.Random(seed)).schema(0)
    return schema if schema is True else {"title": "any", **schema, "$defs": DEFINITIONS}


class _Generator:
    def __init__(self, rng: random.Random) -> None:
        self._rng = rng

    def schema(self, depth: int) -> Any:
        leaves = [self._string, self._number, self._values, self._pattern, self._plain]
        branches = [self._object, self._object, self._array, self._union, self._reference]
        make = self._rng.choice(leaves if depth > 2 else leaves + branches + [self._any])
        return make(depth)

    def _chance(self, probability: float) -> bool:
        return self._rng.random() < probability

    def _plain(self, depth: int) -> Any:
        return {"type": self._rng.choice(["boolean", "null", ["string", "null", "integer"]])}

    def _any(self, depth: int) -> Any:
        return self._rng.choice([True, {}, {"minimum": 3, "minLength": 1}])

    def _string(self, depth: int) -> Any:
        least = self._rng.randint(0, 3)
        schema: dict[str, Any] = {"type": "string"}
        if self._chance(0.4):
            schema["minLength"] = least
        if self._chance(0.6):
            schema["maxLength"] = least + self._rng.randint(0, 8)
        return schema

    def _number(self, depth: int) -> Any:
        schema: dict[str, Any] = {"type": self._rng.choice(["integer", "number"])}
        low = self._rng.choice([0, -3, 5, -100, 1, 17, 0.5, -1.25, 3.75])
        if self._chance(0.5):
            schema[self._rng.choice(["minimum", "exclusiveMinimum"])] = low
        if self._chance(0.5):
            high = low + self._rng.choice([8, 100, 20.5])
            schema[self._rng.choice(["maximum", "exclusiveMaximum"])] = high
        if self._chance(0.3):
            schema["multipleOf"] = self._rng.choice([1, 2, 3, 7, 0.5, 0.25])
        return schema

    def _values(self, depth: int) -> Any:
        if self._chance(0.3):
            return {"const": self._rng.choice(VALUES)}
        return {"enum": self._rng.sample(VALUES, self._rng.randint(1, 4))}

    def _pattern(self, depth: int) -> Any:
        if self._chance(0.5):
            return {"type": "string", "format": self._rng.choice(FORMATS)}
        return {"type": "string", "pattern": self._rng.choice(PATTERNS), "maxLength": 12}

    def _array(self, depth: int) -> Any:
        least = self._rng.randint(0, 2)
        schema: dict[str, Any] = {"type": "array"}
        if self._chance(0.8):
            schema["items"] = self.schema(depth + 1)
        if self._chance(0.4):
            schema["minItems"] = least
        if self._chance(0.6):
            schema["maxItems"] = least + self._rng.randint(0, 3)
        if self._chance(0.3):
            schema["prefixItems"] = [self.schema(depth + 1)]
        return schema

    def _object(self, depth: int) -> Any:
        names = self._rng.sample(["a", "b", "ab", 'n"q', "汉", "x y"], self._rng.randint(0, 4))
        schema: dict[str, Any] = {
            "type": "object",
            "properties": {name: self.schema(depth + 1) for name in names},
            "required": [name for name in names if self._chance(0.6)],
        }
        if self._chance(0.6):
            schema["additionalProperties"] = False
        elif self._chance(0.5):
            schema["additionalProperties"] = self.schema(depth + 1)
        elif len(schema["required"]) == len(names):
            schema["minProperties"] = len(names) + self._rng.randint(0, 2)
        return schema

    def _union(self, depth: int) -> Any:
        kind = self._rng.choice(["anyOf", "oneOf", "allOf"])
        if kind == "anyOf":
            return {"anyOf": [self.schema(depth + 1) for _ in range(self._rng.randint(1, 3))]}
        if kind == "allOf":
            return {"allOf": [{"type": "integer", "minimum": -3}, {"maximum": 40}]}
        return {"oneOf": [self._tagged(number, depth) for number in range(2)]}

    def _tagged(self, tag: int, depth: int) -> Any:
        return {
            "type": "object",
            "properties": {"tag": {"const": tag}, "value": self.schema(depth + 1)},
            "required": ["tag"],
            "additionalProperties": False,
        }

    def _reference(self, depth: int) -> Any:
        return {"$ref": "#/$defs/" + self._rng.choice(list(DEFINITIONS))}
