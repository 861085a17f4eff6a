"""How a product of a few rows is cut up, and for how many rows these kernels are used."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from glmserve_kernels.integers import ceil_div
from glmserve_kernels.quantized_matmul.kernel import fit_block_k, scaling
from glmserve_kernels.tiles import Tiles, load_tiles

ROW_CLASSES = (16, 32, 64)
"""Rows of a tile: BLOCK_M of all these products is the least of them that holds a step's rows."""
ROWS = ROW_CLASSES[-1]
"""The most rows of a step."""


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
    """How to launch a kernel; `programmatic`: it may start while the one before it ends.

    Products and sums outside of dots are rounded one by one, because a compiler chooses anew for
    each shape of tile which of them it fuses.
    """
    options = {"PROGRAMMATIC": programmatic, "enable_fp_fusion": False}
    return {**options, "launch_pdl": True} if programmatic else options


def split_outputs(rows: int, weight: Tensor, scales: Tensor | None, table: Tiles) -> Split:
    """How a product of `rows` rows is cut up into tiles of BLOCK_N of the weight's rows: the dims
    of a launch's scratch."""
    outputs, block_n = len(weight), table[_row_class(rows, weight)]["BLOCK_N"]
    shares = ceil_div(outputs, table[_kind(weight)]["SPLIT_N"])
    return _split(rows, weight, scales, ceil_div(outputs, block_n), block_n, shares, table)


def split_columns(
    rows: int, weight: Tensor, scales: Tensor | None, tiles: int, block_n: int, table: Tiles
) -> Split:
    """The same for a product whose tiles are given.

    Args:
        scales: of a weight of codes; None: it is of numbers.
        tiles: of the output, each of `block_n` columns.
    """
    return _split(rows, weight, scales, tiles, block_n, tiles, table)


def _split(
    rows: int,
    weight: Tensor,
    scales: Tensor | None,
    tiles: int,
    block_n: int,
    shares: int,
    table: Tiles,
) -> Split:
    """Share the columns of a weight so that the chip is full; in the same way for any number of
    rows, as it says in which order a row's products are added up.

    Args:
        shares: tiles that the programs are shared among, where they have SPLIT_N columns.
    """
    constants = _order(weight, scales, table)
    columns = ceil_div(_width(weight), constants["BLOCK_K"])
    wanted = max(1, min(constants["PROGRAMS"] // shares, columns // 4))
    k_tiles = ceil_div(columns, wanted)
    return Split(ceil_div(columns, k_tiles), k_tiles, tiles, tile_rows(rows) * block_n)


def most_partials(rows: int, table: Tiles, block_n: int = 0) -> int:
    """Numbers of scratch that a product of `rows` rows needs at most, for any weight.

    Args:
        block_n: columns of a tile, if the table does not say.
    """
    kinds = [kind for kind in table if "-m" not in kind]
    found = 0
    for kind in kinds:
        tile = table[f"{kind}-m{tile_rows(rows)}"]
        columns = max(tile.get("BLOCK_N", block_n), table[kind].get("SPLIT_N", block_n))
        found = max(found, table[kind]["PROGRAMS"] * columns)
    return found * tile_rows(rows)


def tile_rows(rows: int) -> int:
    """BLOCK_M for so many rows."""
    return next(most for most in ROW_CLASSES if rows <= most)


def launch_constants(
    rows: int, weight: Tensor, scales: Tensor | None, table: Tiles
) -> dict[str, int]:
    """All that the kernel is told about a weight, and how its tiles are computed."""
    width, block_k = _width(weight), _order(weight, scales, table)["BLOCK_K"]
    of_codes = _NUMBERS if scales is None else scaling(weight, scales, width, block_k)
    return {
        "BLOCK_M": tile_rows(rows),
        "BLOCK_K": block_k,
        "IS_EVEN": width % block_k == 0,
        **of_codes,
        **table[_row_class(rows, weight)],
    }


def _order(weight: Tensor, scales: Tensor | None, table: Tiles) -> dict[str, int]:
    """The constants of a kind of weight, the same for any number of rows. BLOCK_K is fitted to its
    groups."""
    constants = dict(table[_kind(weight)])
    if scales is not None:
        groups = scales.shape[1]
        constants["BLOCK_K"] = fit_block_k(constants["BLOCK_K"], _width(weight), groups)
    return constants


def _kind(weight: Tensor) -> str:
    bits = {torch.int8: 8, torch.int16: 4}.get(weight.dtype, 8 * weight.element_size())
    return f"{bits}-bit"


def _row_class(rows: int, weight: Tensor) -> str:
    return f"{_kind(weight)}-m{tile_rows(rows)}"


def scales_strides(scales: Tensor | None) -> tuple[int, int]:
    """Of scales: between outputs, between groups."""
    return (0, 0) if scales is None else (scales.stride(0), scales.stride(1))


_NUMBERS = {"PLANES": 1, "GROUP": 1, "SCALE_ONCE": False, "SCALE_SUMS": False}
"""In the place of how codes are read and scaled."""


def _width(weight: Tensor) -> int:
    """Its columns: a word of a weight of int16 holds four codes."""
    return weight.shape[1] * (4 if weight.dtype == torch.int16 else 1)
