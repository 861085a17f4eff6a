"""Bounds of numbers that the grammar engine holds exactly."""

from __future__ import annotations

import math

from glmserve.text.structure.schema.limits import MAX_EXACT

_MAX_INTEGER = 9 * 10**18
"""The engine's integers have 64 bits."""


def inward(keyword: str, value: float, *, is_integer: bool) -> tuple[str, float, str | None]:
    """Move a bound that is too large for the engine inward, so that fewer numbers match.

    Returns:
        Keyword and value of the bound, and a problem if no number within the limit can match.
    """
    limit = _MAX_INTEGER if is_integer else MAX_EXACT
    if abs(value) <= MAX_EXACT:
        return keyword, value, None
    is_upper = keyword.endswith("aximum")
    sign = 1 if is_upper else -1
    outward = value * sign
    if outward < -limit:
        return keyword, value, f"is beyond {-limit * sign}"
    name = "maximum" if is_upper else "minimum"
    if outward > limit:
        return name, limit * sign, None
    inclusive = math.floor(outward) - (keyword != name)
    exact = float(inclusive)
    if exact > inclusive:
        exact = math.nextafter(exact, -math.inf)
    return name, int(exact) * sign, None
