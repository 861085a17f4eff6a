"""Where a schema has schemas within it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from glmserve.text.structure.schema.problem import escaped

ONE = frozenset(
    "items additionalItems additionalProperties not if then else contains propertyNames "
    "unevaluatedItems unevaluatedProperties contentSchema".split()
)
"""Keywords with one schema."""
LIST = frozenset("allOf anyOf oneOf prefixItems items".split())
"""Keywords with a list of schemas."""
NAMED = frozenset(
    "properties patternProperties $defs definitions dependentSchemas dependencies".split()
)
"""Keywords with an object of schemas."""


def subschemas(schema: dict[str, Any], place: str) -> Iterator[tuple[str, Any]]:
    """JSON pointer and value of each schema directly within a schema, whatever its draft."""
    for keyword, value in schema.items():
        where = f"{place}/{escaped(keyword)}"
        if keyword in LIST and isinstance(value, list):
            yield from ((f"{where}/{index}", member) for index, member in enumerate(value))
        elif keyword in NAMED and isinstance(value, dict):
            yield from ((f"{where}/{escaped(name)}", member) for name, member in value.items())
        elif keyword in ONE and isinstance(value, dict | bool):
            yield where, value
