"""How a product of a few rows is cut up, and for how many rows these kernels are used."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from glmserve_kernels.integers import ceil_div
from glmserve_kernels.tiles import Tiles, load_tiles

SHAPE_CLASS = "m16"
"""The tiles of all these products: up to 16 rows."""


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
    """Up to so many rows a step of all layers is computed by these kernels; 0: none is."""
    rows = load_tiles("few_rows", chip)["layers"]["MOST_ROWS"]
    assert rows <= 16, "SHAPE_CLASS"
    return rows


def split_columns(width: int, tiles: int, block_n: int, constants: Mapping[str, int]) -> Split:
    """Share K = `width` so that the chip is full.

    Args:
        tiles: of the output, each of BLOCK_M rows and `block_n` columns.
        constants: of SHAPE_CLASS.
    """
    columns = ceil_div(width, constants["BLOCK_K"])
    wanted = max(1, min(constants["PROGRAMS"] // tiles, columns // 4))
    k_tiles = ceil_div(columns, wanted)
    return Split(ceil_div(columns, k_tiles), k_tiles, tiles, constants["BLOCK_M"] * block_n)


def launch_constants(tiles: Tiles) -> dict[str, int]:
    """What of SHAPE_CLASS is passed to the kernel."""
    constants = dict(tiles[SHAPE_CLASS])
    del constants["PROGRAMS"]
    return constants
