"""Bounds of numbers that the grammar engine holds exactly."""

from __future__ import annotations

import math

from glmserve.text.structure.schema.limits import MAX_EXACT

_MAX_INTEGER = 9 * 10**18
"""The engine's integers have 64 bits."""

_STEPS = ((10**6, 1e-9), (10**12, 1e-3))
"""How far an exclusive bound is moved, by the size up to which floats tell the difference."""


def inward(keyword: str, value: float, *, is_integer: bool) -> tuple[str, float, str | None]:
    """A bound that the engine holds. Slightly fewer numbers may match it.

    The engine lets an exclusive bound that is a whole number through if the other bound is less
    than 1 away. So it becomes an inclusive one. A bound that is too large is moved inward.

    Args:
        is_integer: only integers are meant.

    Returns:
        Keyword and value of the bound, and a problem if no number within the limit can match.
    """
    is_upper = keyword.endswith("aximum")
    sign = 1 if is_upper else -1
    inclusive = "maximum" if is_upper else "minimum"
    if abs(value) <= MAX_EXACT:
        if keyword != inclusive and not is_integer and value == int(value):
            for size, step in _STEPS:
                if abs(value) < size:
                    return inclusive, value - sign * step, None
        return keyword, value, None
    limit = _MAX_INTEGER if is_integer else MAX_EXACT
    outward = value * sign
    if outward < -limit:
        return keyword, value, f"is beyond {-limit * sign}"
    if outward > limit:
        return inclusive, limit * sign, None
    most = math.floor(outward) - (keyword != inclusive)
    exact = float(most)
    if exact > most:
        exact = math.nextafter(exact, -math.inf)
    return inclusive, int(exact) * sign, None
