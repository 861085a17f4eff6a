"""Rewrites `not` for a grammar, which can only say what is allowed.

A value fails a schema if it fails one of its keywords. So the complement is a list of alternatives,
one or several for each keyword. An alternative that cannot be expressed is left out: then fewer
values match than might, but never a wrong one.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from itertools import pairwise
from typing import Any

from glmserve.text.structure.schema.limits import MAX_PATTERN, TYPES
from glmserve.text.structure.schema.other_texts import MAX_TEXT, other_texts

Schema = dict[str, Any]
Alternatives = list[Any]

_NAMES = ("other", "key", "value", "name", "a", "x1")
"""Names of properties that an object may have additionally."""


def negated(schema: Any) -> Alternatives:
    """Schemas of which each matches only values that a schema (of draft 2020-12) does not match."""
    if isinstance(schema, bool):
        return [] if schema else [True]
    found: Alternatives = []
    for keyword, value in schema.items():
        complement = _COMPLEMENTS.get(keyword)
        if complement is not None:
            found += complement(value, schema)
    return found


def _not(schema: Any) -> Schema:
    return {"not": schema}


def _at(position: int, schema: Any) -> Schema:
    """Arrays with such an item at this position."""
    return {
        "type": "array",
        "prefixItems": [*([True] * position), schema],
        "minItems": position + 1,
    }


def _has(name: str, schema: Any) -> Schema:
    """Objects with such a property."""
    return {"type": "object", "properties": {name: schema}, "required": [name]}


def _lacks(name: str) -> Schema:
    return {"type": "object", "properties": {name: False}}


def _type(value: Any, schema: Schema) -> Alternatives:
    names = {value} if isinstance(value, str) else set(value)
    if "number" in names:
        names.add("integer")
    others = [name for name in TYPES if name not in names]
    if "integer" in names and "number" in others:  # numbers include integers
        others.remove("number")
    if "number" in others:
        others.remove("integer")
    return [{"type": others}] if others else []


def _const(value: Any, schema: Schema) -> Alternatives:
    return _enum([value], schema)


def _enum(values: list[Any], schema: Schema) -> Alternatives:
    kinds = {type(value) for value in values}
    others = [name for name, kind in _KINDS if not kinds & set(kind)]
    found: Alternatives = [{"type": others}] if others else []
    texts = [value for value in values if isinstance(value, str)]
    if texts and max(map(len, texts)) <= MAX_TEXT:
        found.append({"type": "string", "pattern": other_texts(texts)})
    numbers = sorted({v for v in values if isinstance(v, int | float) and not isinstance(v, bool)})
    if numbers:
        found += _between(numbers)
    flags = {value for value in values if isinstance(value, bool)}
    if len(flags) == 1:
        found.append({"const": not flags.pop()})
    lists = [{"anyOf": _different_list(value)} for value in values if isinstance(value, list)]
    objects = [{"anyOf": _different_object(value)} for value in values if isinstance(value, dict)]
    return [*found, *({"allOf": parts} for parts in (lists, objects) if parts)]


_KINDS: tuple[tuple[str, tuple[type, ...]], ...] = (
    ("null", (type(None),)),
    ("boolean", (bool,)),
    ("number", (int, float)),
    ("string", (str,)),
    ("array", (list,)),
    ("object", (dict,)),
)


def _between(numbers: list[float]) -> Alternatives:
    """Numbers apart from these."""
    edges: list[float | None] = [None, *numbers, None]
    found: Alternatives = []
    for low, high in pairwise(edges):
        bounds: Schema = {"type": "number"}
        if low is not None:
            bounds["exclusiveMinimum"] = low
        if high is not None:
            bounds["exclusiveMaximum"] = high
        found.append(bounds)
    return found


def _different_list(value: list[Any]) -> Alternatives:
    sizes = [{"type": "array", "minItems": len(value) + 1}]
    if value:
        sizes.append({"type": "array", "maxItems": len(value) - 1})
    return [*sizes, *(_at(index, _not({"const": item})) for index, item in enumerate(value))]


def _different_object(value: Schema) -> Alternatives:
    found: Alternatives = []
    for name, member in value.items():
        found += [_lacks(name), _has(name, _not({"const": member}))]
    other = next((name for name in _NAMES if name not in value), None)
    return [*found, _has(other, True)] if other else found


def _multiple_of(value: Any, schema: Schema) -> Alternatives:
    """The numbers between some neighbouring multiples."""
    return [
        {"type": "number", "exclusiveMinimum": value * step, "exclusiveMaximum": value * (step + 1)}
        for step in range(-2, 6)
    ]


def _limit(kind: str, keyword: str, change: int) -> Callable[[Any, Schema], Alternatives]:
    """The complement of a bound: another bound, for one type."""

    def complement(value: Any, schema: Schema) -> Alternatives:
        bound = value + change
        return [] if change < 0 and bound < 0 else [{"type": kind, keyword: bound}]

    return complement


def _items(value: Any, schema: Schema) -> Alternatives:
    first = len(schema.get("prefixItems", ()))
    return [_at(first + offset, _not(value)) for offset in range(3)]


def _prefix_items(value: list[Any], schema: Schema) -> Alternatives:
    return [_at(index, _not(item)) for index, item in enumerate(value)]


def _contains(value: Any, schema: Schema) -> Alternatives:
    least = schema.get("minContains", 1)
    found: Alternatives = [{"type": "array", "items": _not(value)}] if least else []
    if (most := schema.get("maxContains")) is not None:
        found.append({"type": "array", "contains": value, "minContains": most + 1})
    return found


def _properties(value: Schema, schema: Schema) -> Alternatives:
    return [_has(name, _not(member)) for name, member in value.items()]


def _required(value: list[str], schema: Schema) -> Alternatives:
    return [_lacks(name) for name in value]


def _additional(value: Any, schema: Schema) -> Alternatives:
    patterns = list(schema.get("patternProperties", {}))
    known = schema.get("properties", {})
    names = (name for name in _NAMES if name not in known)
    free = next((name for name in names if not any(may_match(p, name) for p in patterns)), None)
    return [] if free is None else [_has(free, _not(value))]


def may_match(pattern: str, name: str) -> bool:
    """Whether a pattern may match a name; True if that is not known."""
    if len(pattern) > MAX_PATTERN:
        return True
    try:
        return bool(re.search(pattern, name))
    except re.error:
        return True


def _property_names(value: Any, schema: Schema) -> Alternatives:
    return [{"type": "object", "minProperties": 1, "propertyNames": _not(value)}]


def _dependent_required(value: Schema, schema: Schema) -> Alternatives:
    return [
        {"allOf": [_has(name, True), _lacks(needed)]}
        for name, needs in value.items()
        for needed in needs
        if needed != name
    ]


def _dependent_schemas(value: Schema, schema: Schema) -> Alternatives:
    return [{"allOf": [_has(name, True), _not(member)]} for name, member in value.items()]


def _one_of(value: list[Any], schema: Schema) -> Alternatives:
    none = {"allOf": [_not(member) for member in value]}
    pairs = [
        {"allOf": [one, other]} for index, one in enumerate(value) for other in value[index + 1 :]
    ]
    return [none, *pairs]


def _if(value: Any, schema: Schema) -> Alternatives:
    return [
        {"allOf": [value, _not(schema.get("then", True))]},
        {"allOf": [_not(value), _not(schema.get("else", True))]},
    ]


_COMPLEMENTS: dict[str, Callable[[Any, Schema], Alternatives]] = {
    "$ref": lambda value, schema: [_not({"$ref": value})],
    "type": _type,
    "const": _const,
    "enum": _enum,
    "minimum": lambda value, schema: [{"type": "number", "exclusiveMaximum": value}],
    "maximum": lambda value, schema: [{"type": "number", "exclusiveMinimum": value}],
    "exclusiveMinimum": lambda value, schema: [{"type": "number", "maximum": value}],
    "exclusiveMaximum": lambda value, schema: [{"type": "number", "minimum": value}],
    "multipleOf": _multiple_of,
    "minLength": _limit("string", "maxLength", -1),
    "maxLength": _limit("string", "minLength", 1),
    "minItems": _limit("array", "maxItems", -1),
    "maxItems": _limit("array", "minItems", 1),
    "minProperties": _limit("object", "maxProperties", -1),
    "maxProperties": _limit("object", "minProperties", 1),
    "items": _items,
    "prefixItems": _prefix_items,
    "contains": _contains,
    "properties": _properties,
    "required": _required,
    "additionalProperties": _additional,
    "propertyNames": _property_names,
    "dependentRequired": _dependent_required,
    "dependentSchemas": _dependent_schemas,
    "allOf": lambda value, schema: [_not(member) for member in value],
    "anyOf": lambda value, schema: [{"allOf": [_not(member) for member in value]}],
    "oneOf": _one_of,
    "not": lambda value, schema: [value],
    "if": _if,
}
"""Alternatives by keyword. Other keywords match everything, or their complement is unknown."""
