"""Finds the value that makes a body no JSON, where a laxer reader gets past it."""

from __future__ import annotations

import json
import math
from typing import Any


def misfit(body: bytes) -> str | None:
    """Path of the first string with half a surrogate pair, or number that is not finite.

    Python's reader takes both, unlike ours and unlike the standard. None if it cannot read the body
    either, or finds neither.
    """
    try:
        data = json.loads(body)
    except (ValueError, RecursionError):
        return None
    left: list[tuple[str, Any]] = [("", data)]
    while left:
        path, value = left.pop()
        if _is_misfit(value):
            return path.encode("utf-8", "backslashreplace").decode() or None
        prefix = f"{path}." if path else ""
        if isinstance(value, dict):
            left += [(f"{prefix}{key}", item) for key, item in reversed(value.items())]
        elif isinstance(value, list):
            left += [(f"{prefix}{i}", item) for i, item in reversed([*enumerate(value)])]
    return None


def _is_misfit(value: Any) -> bool:
    if isinstance(value, float):
        return not math.isfinite(value)
    return isinstance(value, str) and any("\ud800" <= c <= "\udfff" for c in value)
