"""Rewrites keywords for a grammar, as alternatives: schemas of which one must match.

The alternatives together may match less than the keyword, but never more.
"""

from __future__ import annotations

from itertools import combinations, permutations
from math import comb
from typing import Any

from glmserve.text.structure.schema.limits import MAX_ALTERNATIVES, TYPES

Schema = dict[str, Any]
Alternatives = list[Any]

_OTHER_THAN_ARRAY: Schema = {"type": [name for name in TYPES if name not in ("array", "integer")]}
_LEADING = 3
"""Positions at which the first item that `contains` asks for may stand."""
_MORE = 4
"""Items beyond `minContains`."""
_MAX_PERMUTED = 5
_MAX_CHOSEN = 8


def conditional(schema: Schema) -> Alternatives:
    """Of `if`, `then` and `else`."""
    condition = schema["if"]
    return [
        {"allOf": [condition, schema.get("then", True)]},
        {"allOf": [{"not": condition}, schema.get("else", True)]},
    ]


def dependent(name: str, consequence: Any) -> Alternatives:
    """Of the rule that an object with this property matches another schema."""
    return [{"properties": {name: False}}, consequence]


def containing(schema: Schema) -> Alternatives:
    """Of `contains`, `minContains` and `maxContains`. The items asked for stand together."""
    item = schema["contains"]
    least, most = int(schema.get("minContains", 1)), schema.get("maxContains")
    others: Any = True
    if most is None:
        if least == 0:
            return [True]
        counts = [least]
    else:
        counts, others = [*range(least, min(int(most), least + _MORE) + 1)], {"not": item}
    arrays = [
        {
            "type": "array",
            "prefixItems": [*([others] * start), *([item] * count)],
            "items": others,
            "minItems": start + count,
        }
        for count in counts
        for start in (range(_LEADING) if count else [0])
    ]
    for array in arrays:
        if not array["prefixItems"]:
            del array["prefixItems"]
    return [*arrays, _OTHER_THAN_ARRAY]


def distinct(schema: Schema, values: list[Any]) -> Alternatives | None:
    """Arrays of distinct items of a few values, in any order or in this order; None if many.

    Args:
        schema: has `uniqueItems`, `minItems` and `maxItems`.
        values: all possible items.
    """
    if len(values) > _MAX_CHOSEN:
        return None
    arranged = permutations if len(values) <= _MAX_PERMUTED else combinations
    most = min(int(schema.get("maxItems", len(values))), len(values))
    sizes = range(int(schema.get("minItems", 0)), most + 1)
    arrays = [list(chosen) for size in sizes for chosen in arranged(values, size)]
    return [*([{"enum": arrays}] if arrays else []), _OTHER_THAN_ARRAY]


def needs_other_names(schema: Schema) -> bool:
    """Whether `minProperties` asks for more names than the schema lists, and for more than one."""
    listed, required, optional = _names(schema)
    num_missing = int(schema.get("minProperties", 0)) - len(required)
    num_once = 1 if set(required) <= set(listed) else 0  # one name is different from the listed
    return not _is_closed(schema) and num_missing > max(len(optional), num_once)


def _names(schema: Schema) -> tuple[list[str], list[str], list[str]]:
    """The listed, the required, and the optional properties."""
    listed = [name for name, member in schema.get("properties", {}).items() if member is not False]
    required = list(dict.fromkeys(schema.get("required", ())))
    return listed, required, [name for name in listed if name not in required]


def _is_closed(schema: Schema) -> bool:
    """Whether there are no properties but those that the schema lists."""
    return schema.get("additionalProperties") is False and not schema.get("patternProperties")


def counted(schema: Schema, *, may_repeat: bool) -> tuple[Schema, list[Alternatives]]:
    """Of `minProperties` and `maxProperties`.

    The engine counts properties only if all that the schema lists are required, or if it lists all
    that there may be, and there must be at least one.

    Args:
        may_repeat: a name that is not listed may be written twice, and would count twice.

    Returns:
        What of both keywords the engine can count, and further alternatives.
    """
    listed, required, optional = _names(schema)
    bounds: Schema = {
        key: schema[key] for key in ("minProperties", "maxProperties") if key in schema
    }
    least, most = int(bounds.get("minProperties", 0)), bounds.get("maxProperties")
    is_closed = _is_closed(schema)
    if least <= len(required):
        bounds.pop("minProperties", None)
    if most is not None and is_closed and most >= len(listed):
        bounds.pop("maxProperties")
    if not optional or not bounds or (is_closed and bounds == {"minProperties": 1}):
        return bounds, []
    found = []
    if "minProperties" in bounds:
        others = not is_closed and (not may_repeat or least == len(required) + 1)
        found.append(_at_least(least, len(required), optional, others=others))
    if "maxProperties" in bounds:
        found.append(_at_most(int(most or 0), listed, required, optional, is_closed))
    return {}, found


def _at_least(least: int, num_required: int, optional: list[str], *, others: bool) -> Alternatives:
    """Enough of the optional properties, or none of them and others, if there may be others."""
    names = _chosen(optional, least - num_required)
    found: Alternatives = [{"required": chosen} for chosen in names]
    if others:
        found.append({"properties": dict.fromkeys(optional, False), "minProperties": least})
    return found


def _at_most(
    most: int, listed: list[str], required: list[str], optional: list[str], is_closed: bool
) -> Alternatives:
    """Some of the optional properties, or none of them and others."""
    room = most - len(required)
    if room < 0:
        return [{"type": [name for name in TYPES if name not in ("object", "integer")]}]
    found: Alternatives = [
        {
            "properties": {name: True for name in [*listed, *required] if name not in left},
            "additionalProperties": False,
        }
        for left in _chosen(optional, max(0, len(optional) - room))
    ]
    if not is_closed:
        none = dict.fromkeys(optional, False)
        found.append({"properties": none, "maxProperties": most})
    return found


def _chosen(names: list[str], count: int) -> list[list[str]]:
    """Ways to choose from names: all, or neighbours only."""
    if count > len(names):
        return []
    if comb(len(names), count) <= MAX_ALTERNATIVES:
        return [list(chosen) for chosen in combinations(names, count)]
    starts = range(min(len(names) - count + 1, MAX_ALTERNATIVES))
    return [names[start : start + count] for start in starts]
