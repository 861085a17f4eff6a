"""The parts of a schema that every matching value needs, to find the part that nothing matches."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from glmserve.text.structure.schema.problem import escaped
from glmserve.text.structure.schema.references import at_pointer, target_pointer
from glmserve.text.structure.schema.values import is_count


def needed_parts(root: Any, place: str) -> Iterator[str]:
    """JSON pointers of schemas without a match of which the schema at `place` has none.

    Args:
        root: with local references; it may be malformed.
    """
    schema = at_pointer(root, place)
    if not isinstance(schema, dict):
        return
    if isinstance(reference := schema.get("$ref"), str) and reference.startswith("#"):
        yield target_pointer(reference)
    if isinstance(parts := schema.get("allOf"), list):
        yield from (f"{place}/allOf/{index}" for index in range(len(parts)))
    yield from _properties(schema, place)
    yield from _items(schema, place)


def _properties(schema: dict[str, Any], place: str) -> Iterator[str]:
    required, properties = schema.get("required"), schema.get("properties", {})
    if not isinstance(required, list) or not isinstance(properties, dict):
        return
    for name in required:
        if isinstance(name, str) and name in properties:
            yield f"{place}/properties/{escaped(name)}"
        elif isinstance(schema.get("additionalProperties"), dict):
            yield f"{place}/additionalProperties"


def _items(schema: dict[str, Any], place: str) -> Iterator[str]:
    least, prefix = schema.get("minItems", 0), schema.get("prefixItems", [])
    if not is_count(least) or not isinstance(prefix, list):
        return
    yield from (f"{place}/prefixItems/{index}" for index in range(min(int(least), len(prefix))))
    if least > len(prefix) and isinstance(schema.get("items"), dict):
        yield f"{place}/items"
