"""Finds the value that makes a body invalid JSON, where Python's reader accepts the value."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from typing import Any, NamedTuple

_LONGEST_NAME = 100  # characters of a key that a path repeats
_MOST_NAMES = 64


class _Place(NamedTuple):
    """The position of a value. Its path is built only if it is needed, as keys may be long."""

    parent: _Place | None
    key: str | int
    value: Any


def invalid_value_path(body: bytes) -> str | None:
    """The path of the first string with half a surrogate pair, or number that is not finite.

    Python's reader takes both, unlike ours and unlike the standard. None if it cannot read the body
    either, or finds neither.
    """
    try:
        data = json.loads(body)
    except (ValueError, RecursionError):
        return None
    left = [_Place(None, "", data)]
    while left:
        place = left.pop()
        if _is_invalid(place.value):
            return _path(place)
        left += [_Place(place, *item) for item in reversed(list(_items(place.value)))]
    return None


def _items(value: Any) -> Iterable[tuple[str | int, Any]]:
    if isinstance(value, dict):
        return value.items()
    return enumerate(value) if isinstance(value, list) else ()


def _path(place: _Place) -> str | None:
    names: list[str] = []
    while place.parent is not None:
        names.append(str(place.key)[:_LONGEST_NAME])
        place = place.parent
    path = ".".join(names[: -_MOST_NAMES - 1 : -1])
    return path.encode("utf-8", "backslashreplace").decode() or None


def _is_invalid(value: Any) -> bool:
    if isinstance(value, float):
        return not math.isfinite(value)
    return isinstance(value, str) and any("\ud800" <= c <= "\udfff" for c in value)
