"""Tries other tiles for an operation's shape classes: one constant at a time, or a block and its
warps together."""

from __future__ import annotations

import contextlib
import json
import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from triton.runtime.jit import JITFunction

from glmserve_kernels.tiles import Tiles

Constants = dict[str, int]
"""Of one shape class."""
Cost = Callable[[Constants], float]
"""Seconds with these constants; infinite if they cannot be had."""

FIXED = {"batch_invariant_matmul": {"CHUNK"}}
"""Constants that say in which order numbers are added, by operation: they are the same on every
chip, and more is made for them than a launch."""

ROUNDS = 2
NOISE = 0.02
"""What two measurements of the same may differ by."""


def neighbours(name: str, value: int) -> list[int]:
    """Values to try in place of one that was good so far."""
    if name == "num_stages":
        tried, least, most = [value - 1, value + 1], 1, 5
    else:
        tried, least, most = [value // 2, value * 2], 1, 16 if name == "num_warps" else 2**20
    return [other for other in tried if least <= other <= most]


def moves(constants: Constants, fixed: set[str]) -> list[dict[str, int]]:
    """What to change: each constant alone; and the size of a block and the number of warps, both
    doubled or both halved, so that a warp has as much to do as before."""
    names = [name for name in constants if name not in fixed]
    found = [{name: value} for name in names for value in neighbours(name, constants[name])]
    if "num_warps" in names:
        for block in [name for name in names if name.startswith("BLOCK")]:
            pairs = zip(
                neighbours(block, constants[block]),
                neighbours("num_warps", constants["num_warps"]),
                strict=False,
            )
            found += [{block: size, "num_warps": warps} for size, warps in pairs]
    return found


def climb(start: Constants, cost: Cost, fixed: set[str]) -> Constants:
    """The cheapest constants found by one change after the other, `start` if there are none."""
    best, lowest = dict(start), cost(start)
    for _ in range(ROUNDS):
        before = best
        for move in moves(before, fixed):
            candidate = {**best, **move}
            seconds = cost(candidate)
            if seconds < lowest * (1 - NOISE):
                best, lowest = candidate, seconds
        if best == before:
            break
    return best


def geometric_mean(values: list[float]) -> float:
    """Of positive numbers, infinity among them."""
    return math.exp(sum(map(math.log, values)) / len(values))


class NotingTiles(dict[str, Mapping[str, int]]):
    """Tiles that remember which shape classes were looked up."""

    def __init__(self, tiles: Tiles) -> None:
        super().__init__(tiles)
        self.used: set[str] = set()

    def __getitem__(self, shape_class: str) -> Mapping[str, int]:
        self.used.add(shape_class)
        return super().__getitem__(shape_class)


@contextlib.contextmanager
def launched_kernels() -> Iterator[list[Any]]:
    """Yields a list that the kernels launched meanwhile are added to."""
    launched: list[Any] = []
    launch = JITFunction.run

    def watch(self: Any, *args: Any, **options: Any) -> Any:
        kernel = launch(self, *args, **options)
        launched.append(kernel)
        return kernel

    JITFunction.run = watch
    try:
        yield launched
    finally:
        JITFunction.run = launch


def format_tiles(table: Mapping[str, Tiles]) -> str:
    """A tiles.json as people read it: a line for each shape class."""
    chips = []
    for chip, classes in table.items():
        lines = [
            f"{json.dumps(name)}: {json.dumps(dict(value))}" for name, value in classes.items()
        ]
        inner = lines[0] if len(lines) == 1 else "\n    " + ",\n    ".join(lines) + "\n  "
        chips.append(f'  "{chip}": {{{inner}}}')
    return "{\n" + ",\n".join(chips) + "\n}\n"
