"""How a product of a few rows is cut up, and for how many rows these kernels are used."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from torch import Tensor

from glmserve_kernels.integers import ceil_div
from glmserve_kernels.tiles import Tiles, load_tiles

ROWS = 16
"""Rows of a tile: BLOCK_M of all these products."""


class Split(NamedTuple):
    """How K is shared among the programs of a tile."""

    splits: int
    """Programs of each tile."""
    k_tiles: int
    """Tiles of BLOCK_K columns that each of them takes; the last one may have fewer."""
    tiles: int
    """Tiles of the output: the least number of arrivals."""
    tile_numbers: int
    """Numbers of a tile."""

    @property
    def partials(self) -> int:
        """float32 numbers of scratch; 0: K is not shared."""
        return self.splits * self.tiles * self.tile_numbers if self.splits > 1 else 0


def most_rows(chip: str) -> int:
    """Up to so many rows, ROWS at most, a step is computed by these kernels; 0: none is."""
    return min(ROWS, load_tiles("few_rows", chip)["layers"]["MOST_ROWS"])


def is_programmatic(chip: str) -> bool:
    """Whether a launch starts while the kernel before it ends. From sm_90 on it may."""
    return bool(load_tiles("few_rows", chip)["layers"]["PROGRAMMATIC"])


def launch_options(*, programmatic: bool) -> dict[str, bool]:
    """How to launch a kernel that may start while the one before it ends."""
    return {"PROGRAMMATIC": True, "launch_pdl": True} if programmatic else {"PROGRAMMATIC": False}


def shape_class(weight: Tensor) -> str:
    """Under which name the tiles for a weight are found."""
    return f"{8 * weight.element_size()}-bit"


def split_columns(width: int, tiles: int, block_n: int, constants: Mapping[str, int]) -> Split:
    """Share K = `width` so that the chip is full.

    Args:
        tiles: of the output, each of ROWS rows and `block_n` columns.
        constants: of a shape class.
    """
    columns = ceil_div(width, constants["BLOCK_K"])
    wanted = max(1, min(constants["PROGRAMS"] // tiles, columns // 4))
    k_tiles = ceil_div(columns, wanted)
    return Split(ceil_div(columns, k_tiles), k_tiles, tiles, ROWS * block_n)


def launch_constants(weight: Tensor, tiles: Tiles) -> dict[str, int]:
    """What of a weight's shape class is passed to the kernel."""
    constants = dict(tiles[shape_class(weight)])
    del constants["PROGRAMS"]
    return {"BLOCK_M": ROWS, **constants}
