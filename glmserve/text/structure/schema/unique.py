"""Arrays of different strings, which no grammar can hold, but the guard of JSON text can.

The guard (`json_text.py`) knows an array by the name of the property whose value it is. So all
arrays under such a name have different items.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from glmserve.text.structure.schema.references import target_pointer
from glmserve.text.structure.schema.subschemas import subschemas

UniqueItems = dict[str, tuple[str, ...] | None]
"""By the property's name: the only possible strings, or None if they are many."""

_BOUNDS = frozenset("pattern format maxLength allOf anyOf oneOf not if $ref".split())
_OF_SAME_VALUE = re.compile(r"(?:/(?:anyOf|oneOf|allOf)/\d+)*$")
_VALUE_OF_PROPERTY = re.compile(r"/properties/([^/]+)$")


class PropertyNames:
    """Finds the properties whose values a schema describes, through references.

    Args:
        root: with local references.
    """

    def __init__(self, root: Any) -> None:
        self._referrers: dict[str, list[str]] = {}
        """Pointers of the schemas that refer to each pointer."""
        pending = [("", root)]
        while pending:
            place, schema = pending.pop()
            if not isinstance(schema, dict):
                continue
            if isinstance(reference := schema.get("$ref"), str) and reference.startswith("#"):
                self._referrers.setdefault(target_pointer(reference), []).append(place)
            pending += subschemas(schema, place)

    def of(self, place: str) -> set[str] | None:
        """The names of all properties whose values are at a place; None if others are, too."""
        names, seen, pending = set[str](), set[str](), [place]
        while pending:
            at = _OF_SAME_VALUE.sub("", pending.pop())
            if at in seen:
                continue
            seen.add(at)
            if match := _VALUE_OF_PROPERTY.search(at):
                names.add(match[1].replace("~1", "/").replace("~0", "~"))
            elif at == "" or at not in self._referrers:
                return None
            pending += self._referrers.get(at, ())
        return names


def possible_strings(items: Any) -> tuple[bool, tuple[str, ...] | None]:
    """Whether the guard can tell a schema's items apart: strings that are listed, or of any kind.

    The guard forbids the end of a string that was written before. A string that cannot end
    otherwise would be a dead end, so strings of a pattern, format or length are not guarded.

    Returns:
        Also the strings, if the schema lists them.
    """
    if not isinstance(items, dict):
        return False, None
    values = [items["const"]] if "const" in items else items.get("enum")
    if values is not None:
        is_text = all(isinstance(value, str) for value in values)
        return is_text, tuple(dict.fromkeys(values)) if is_text else None
    is_bounded = not _BOUNDS.isdisjoint(items)
    return items.get("type") == "string" and not is_bounded, None


def add_unique(known: UniqueItems, name: str, strings: Iterable[str] | None) -> None:
    """Note that arrays under a name have different items."""
    if name not in known:
        known[name] = None if strings is None else tuple(strings)
        return
    before = known[name]
    both = None if before is None or strings is None else (*before, *strings)
    known[name] = both
