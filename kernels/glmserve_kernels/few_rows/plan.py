"""How a product of a few rows is cut up, and for how many rows these kernels are used."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from glmserve_kernels.integers import ceil_div
from glmserve_kernels.quantized_matmul.kernel import fit_block_k, scaling
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


def split_outputs(weight: Tensor, scales: Tensor | None, table: Tiles) -> Split:
    """How a product is cut up into tiles of BLOCK_N of the weight's rows: the dims of a launch's
    scratch."""
    block_n = tile_constants(weight, scales, table)["BLOCK_N"]
    return split_columns(weight, scales, ceil_div(len(weight), block_n), block_n, table)


def split_columns(
    weight: Tensor, scales: Tensor | None, tiles: int, block_n: int, table: Tiles
) -> Split:
    """Share the columns of a weight so that the chip is full.

    Args:
        scales: of a weight of codes; None: it is of numbers.
        tiles: of the output, each of ROWS rows and `block_n` columns.
    """
    constants = tile_constants(weight, scales, table)
    columns = ceil_div(_width(weight), constants["BLOCK_K"])
    wanted = max(1, min(constants["PROGRAMS"] // tiles, columns // 4))
    k_tiles = ceil_div(columns, wanted)
    return Split(ceil_div(columns, k_tiles), k_tiles, tiles, ROWS * block_n)


def tile_constants(weight: Tensor, scales: Tensor | None, table: Tiles) -> dict[str, int]:
    """The constants of a weight's shape class, fitted to its groups."""
    bits = {torch.int8: 8, torch.int16: 4}.get(weight.dtype, 8 * weight.element_size())
    constants = dict(table[f"{bits}-bit"])
    if scales is not None:
        groups = scales.shape[1]
        constants["BLOCK_K"] = fit_block_k(constants["BLOCK_K"], _width(weight), groups)
    return constants


def launch_constants(weight: Tensor, scales: Tensor | None, table: Tiles) -> dict[str, int]:
    """All that the kernel is told about a weight."""
    constants = tile_constants(weight, scales, table)
    del constants["PROGRAMS"]
    width, block_k = _width(weight), constants["BLOCK_K"]
    of_codes = _NUMBERS if scales is None else scaling(weight, scales, width, block_k)
    return {"BLOCK_M": ROWS, "IS_EVEN": width % block_k == 0, **of_codes, **constants}


def scales_strides(scales: Tensor | None) -> tuple[int, int]:
    """Of scales: between outputs, between groups."""
    return (0, 0) if scales is None else (scales.stride(0), scales.stride(1))


_NUMBERS = {"PLANES": 1, "GROUP": 1, "SCALE_ONCE": False, "SCALE_SUMS": False}
"""In the place of how codes are read and scaled."""


def _width(weight: Tensor) -> int:
    """Its columns: a word of a weight of int16 holds four codes."""
    return weight.shape[1] * (4 if weight.dtype == torch.int16 else 1)
