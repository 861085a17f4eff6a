"""Distributions of lengths, as people write them."""

from __future__ import annotations

import random
from collections.abc import Callable

Length = Callable[[random.Random], int]
"""Draws a number of tokens."""


def parse_length(text: str) -> Length:
    """`128`, `uniform:64:256` or `normal:128:32` as a function that draws a number of tokens.

    Raises:
        ValueError: it is none of these.
    """
    kind, *numbers = text.split(":") if ":" in text else ("fixed", text)
    match kind, [int(number) for number in numbers]:
        case "fixed", [value] if value > 0:
            return lambda rng: value
        case "uniform", [low, high] if 0 < low <= high:
            return lambda rng: rng.randint(low, high)
        case "normal", [mean, deviation] if mean > 0 and deviation > 0:
            return lambda rng: max(1, round(rng.gauss(mean, deviation)))
    raise ValueError(text)
