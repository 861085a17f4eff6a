"""Cuts rows that are grouped by slot into tiles, one per program. Plain numpy: planning needs no
torch."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Int32s = NDArray[np.int32]

TILE_ROWS = 16
"""Rows of a tile. It is the same for every chip and any number of rows, so the bits of a row's
result do not depend on the batch."""


def max_tiles(rows: int, slots: int) -> int:
    """Bound on the tiles of so many rows with up to so many slots: the last tile of each may have
    one row."""
    return (rows + min(rows, slots) * (TILE_ROWS - 1)) // TILE_ROWS


def plan_tiles(
    slots: NDArray[np.integer], starts: NDArray[np.integer], num_tiles: int | None = None
) -> Int32s:
    """Cut groups into tiles of at most TILE_ROWS rows.

    Args:
        slots: [G], the slot of each group.
        starts: [G + 1], the first row of each group; then the number of rows.
        num_tiles: rows of the result, see max_tiles. None: as many as there are tiles.

    Returns:
        int32 [num_tiles, 3]: (slot, first row, rows); unused ones are -1.
    """
    sizes = np.diff(starts)
    counts = -(-sizes // TILE_ROWS)
    used = int(counts.sum())
    group = np.repeat(np.arange(len(slots)), counts)
    within = (np.arange(used) - np.repeat(np.cumsum(counts) - counts, counts)) * TILE_ROWS
    tiles = np.full((used if num_tiles is None else num_tiles, 3), -1, np.int32)
    tiles[:used, 0] = np.asarray(slots)[group]
    tiles[:used, 1] = np.asarray(starts)[group] + within
    tiles[:used, 2] = np.minimum(sizes[group] - within, TILE_ROWS)
    return tiles
