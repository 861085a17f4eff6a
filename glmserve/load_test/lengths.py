"""Numbers of tokens, fixed or drawn."""

from __future__ import annotations

import argparse
import random
from collections.abc import Callable

Length = Callable[[random.Random], int]


def length(text: str) -> Length:
    """`128`, `uniform:64:256` or `normal:128:32` as a function that draws a number of tokens.

    Raises:
        argparse.ArgumentTypeError: it is none of these.
    """
    kind, *numbers = text.split(":") if ":" in text else ("fixed", text)
    try:
        values = [int(number) for number in numbers]
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r}: lengths are whole numbers") from None
    if any(value < 1 for value in values):
        raise argparse.ArgumentTypeError(f"{text!r}: lengths are at least 1")
    match kind, values:
        case "fixed", [value]:
            return lambda rng: value
        case "uniform", [low, high] if low <= high:
            return lambda rng: rng.randint(low, high)
        case "normal", [mean, deviation]:
            return lambda rng: max(1, round(rng.gauss(mean, deviation)))
    raise argparse.ArgumentTypeError(
        f"{text!r}: write 128, uniform:64:256 (low, high) or normal:128:32 (mean, deviation)"
    )
