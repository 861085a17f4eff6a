"""Cuts new tokens into tiles, one per program. Plain numpy: planning needs no torch."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray


def tokens_per_tile(group: int, tiles: Mapping[str, int]) -> int:
    """Tokens per program on a chip with these tile sizes: BLOCK_M rows, `group` for each token.

    Args:
        group: query heads per key head.
        tiles: of the cache's shape class, see tiles.load_tiles.
    """
    return max(1, tiles["BLOCK_M"] // group)


def max_tiles(tokens: int, sequences: int, tokens_per_tile: int) -> int:
    """Bound on the tiles that query_tiles makes of so many new tokens of up to so many sequences:
    each may end in a tile with one token."""
    return (tokens + sequences * (tokens_per_tile - 1)) // tokens_per_tile


def query_tiles(query_lens: NDArray[np.integer], tokens_per_tile: int) -> NDArray[np.int32]:
    """int32 [n, 2]: (sequence, first query of the tile among the sequence's new tokens).

    The last tiles of a sequence come first: their contexts are longest, and a chip is better
    balanced if the shortest items start last.
    """
    lens = np.asarray(query_lens, np.int64)
    counts = -(-lens // tokens_per_tile)
    ends = np.cumsum(counts)
    sequence = np.repeat(np.arange(len(lens)), counts)
    tile = ends[sequence] - 1 - np.arange(len(sequence))
    return np.stack((sequence, tile * tokens_per_tile), 1).astype(np.int32)
