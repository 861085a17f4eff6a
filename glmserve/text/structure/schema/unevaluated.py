"""Rewrites `unevaluatedProperties` and `unevaluatedItems` for a grammar.

What is evaluated depends on which parts of the schema match. So there is an alternative for each
way in which the parts can match. It asks for these parts, and knows what they evaluate.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

from glmserve.text.structure.schema.exclusive import Schema, Target
from glmserve.text.structure.schema.limits import MAX_ALTERNATIVES

_MAX_DEPTH = 6
"""Schemas within schemas that are looked into."""
_MAX_STEPS = 1000
"""Schemas that are looked into."""


@dataclass(frozen=True)
class _Evaluated:
    """Schemas that a value matches, and the properties and items that they evaluate."""

    parts: list[Any] = field(default_factory=list)
    names: dict[str, bool] = field(default_factory=dict)
    patterns: dict[str, bool] = field(default_factory=dict)
    all_properties: bool = False
    prefix: int = 0
    """Items from the first on."""
    items: list[Any] = field(default_factory=list)
    """Schemas of which each evaluates the items that match it."""
    all_items: bool = False

    def __or__(self, other: _Evaluated) -> _Evaluated:
        return _Evaluated(
            self.parts + other.parts,
            self.names | other.names,
            self.patterns | other.patterns,
            self.all_properties or other.all_properties,
            max(self.prefix, other.prefix),
            self.items + other.items,
            self.all_items or other.all_items,
        )


def unevaluated(keyword: str, schema: dict[str, Any], target: Target) -> list[Any]:
    """Alternatives that say the same as one of these keywords, together with the others.

    Args:
        keyword: unevaluatedProperties or unevaluatedItems.
        schema: the schema that has it, with all its keywords.
    """
    others = {key: value for key, value in schema.items() if key != keyword}
    make = _properties if keyword == "unevaluatedProperties" else _items
    found = islice(_Ways(target).of(others), MAX_ALTERNATIVES)
    return [{"allOf": [*way.parts, make(schema[keyword], way)]} for way in found]


def _properties(value: Any, way: _Evaluated) -> Any:
    if way.all_properties:
        return True
    rest: dict[str, Any] = {"additionalProperties": value}
    if way.names:
        rest["properties"] = way.names
    if way.patterns:
        rest["patternProperties"] = way.patterns
    return rest


def _items(value: Any, way: _Evaluated) -> Any:
    if way.all_items:
        return True
    rest: dict[str, Any] = {"items": {"anyOf": [value, *way.items]} if way.items else value}
    if way.prefix:
        rest["prefixItems"] = [True] * way.prefix
    return rest


class _Ways:
    """Finds the ways in which a value can match a schema. It takes a limited number of steps."""

    def __init__(self, target: Target) -> None:
        self._target = target
        self._steps = 0

    def of(self, schema: Schema, depth: int = 0) -> Iterator[_Evaluated]:
        """The ways. What is too deep or too far counts as unevaluated."""
        self._steps += 1
        schema = self._target(schema)
        if isinstance(schema, bool) or depth > _MAX_DEPTH or self._steps > _MAX_STEPS:
            yield _Evaluated()
            return
        groups = [list(islice(group, MAX_ALTERNATIVES)) for group in self._groups(schema, depth)]
        yield from _combined(_own(schema), groups)

    def _groups(self, schema: dict[str, Any], depth: int) -> Iterator[Iterable[_Evaluated]]:
        """Groups of ways; a value matches in one way of each group."""
        always = list(schema.get("allOf", ()))
        if "$ref" in schema:
            always.append({"$ref": schema["$ref"]})
        for part in always:
            yield self.of(part, depth + 1)
        for keyword in ("anyOf", "oneOf"):
            if keyword in schema:
                yield self._one_of([([part], part) for part in schema[keyword]], depth)
        if "if" in schema:
            condition = schema["if"]
            both = {"allOf": [condition, schema.get("then", True)]}
            fails = {"not": condition}
            choices = [([condition], both), ([fails], schema.get("else", True))]
            yield self._one_of(choices, depth)
        for name, part in schema.get("dependentSchemas", {}).items():
            absent = {"properties": {name: False}}
            present = {"type": "object", "required": [name]}
            yield self._one_of([([absent], True), ([present], part)], depth)

    def _one_of(self, choices: list[tuple[list[Any], Any]], depth: int) -> Iterator[_Evaluated]:
        """For each choice: schemas that tell that it is made, and the schema that evaluates."""
        for parts, schema in choices:
            for way in self.of(schema, depth + 1):
                yield _Evaluated(parts=parts) | way


def _combined(first: _Evaluated, groups: list[list[_Evaluated]]) -> Iterator[_Evaluated]:
    if not groups:
        yield first
        return
    for way in groups[0]:
        yield from _combined(first | way, groups[1:])


def _own(schema: dict[str, Any]) -> _Evaluated:
    """What the schema's own keywords evaluate."""
    return _Evaluated(
        names=dict.fromkeys(schema.get("properties", ()), True),
        patterns=dict.fromkeys(schema.get("patternProperties", ()), True),
        all_properties=bool({"additionalProperties", "unevaluatedProperties"} & schema.keys()),
        prefix=len(schema.get("prefixItems", ())),
        items=[schema["contains"]] if "contains" in schema else [],
        all_items=bool({"items", "unevaluatedItems"} & schema.keys()),
    )
