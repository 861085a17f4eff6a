"""Cuts contexts into items, one per program. Plain numpy: planning needs no torch."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

Int32s = NDArray[np.int32]

SHORTEST_PIECE = 256
"""Positions: below it, merging costs more than splitting the work gains."""


def max_items(batch: int, kv_heads: int, programs: int) -> int:
    """Bound on the items that split_contexts makes for any contexts of `batch` sequences on a chip.

    One program runs per item and key head; `batch` more than fill the chip because each sequence
    may end in a piece that is not full.

    Args:
        programs: that the chip runs at the same time, see `programs_at_once`.
    """
    return batch + -(-programs // kv_heads)


def programs_at_once(tiles: Mapping[str, int], multiprocessors: int) -> int:
    """Programs of the kernel that a chip runs at the same time. How many a multiprocessor has room
    for follows from their registers and shared memory, and is one of the constants.

    Args:
        tiles: of the cache's shape class, see tiles.load_tiles.
    """
    return tiles["PROGRAMS"] * multiprocessors


def max_fixed_items(batch: int, max_context: int, piece: int) -> int:
    """Bound on the items for pieces of `piece` positions, each context having up to
    `max_context`."""
    return batch * -(-max_context // piece)


def split_contexts(
    context_lens: NDArray[np.integer], num_items: int, *, block_size: int, piece: int | None = None
) -> tuple[Int32s, Int32s]:
    """Cut contexts into about equal pieces, or into pieces of `piece` positions.

    Args:
        context_lens: [B], 0 for a sequence without items.
        num_items: rows of the result; more than B unless `piece` is given.
        block_size: positions in a cache block; pieces begin at multiples of it.
        piece: a multiple of `block_size`. The cuts then do not depend on the other sequences.

    Returns:
        items int32 [num_items, 3]: (sequence, first position, end position), by sequence, then by
        position; unused rows are -1.
        item_start int32 [B + 1]: items of sequence b are item_start[b]..item_start[b+1]-1.

    Raises:
        ValueError: there are more pieces than num_items, or `piece` is no multiple of `block_size`.
    """
    blocks = -(-np.asarray(context_lens, np.int64) // block_size)
    if piece is None:
        blocks_per_piece = _balanced(blocks, num_items, block_size)
    elif piece > 0 and piece % block_size == 0:
        blocks_per_piece = np.full_like(blocks, piece // block_size)
    else:
        raise ValueError(
            f"pieces of {piece} positions are no multiple of the block size, {block_size}"
        )
    counts = -(-blocks // blocks_per_piece)
    item_start = np.concatenate(([0], np.cumsum(counts))).astype(np.int32)
    used = int(item_start[-1])
    if used > num_items:
        raise ValueError(f"{used} pieces of {piece} positions, but only {num_items} items")
    sequence = np.repeat(np.arange(len(blocks)), counts)
    length = blocks_per_piece[sequence] * block_size
    first = (np.arange(used) - item_start[sequence]) * length
    items = np.full((num_items, 3), -1, np.int32)
    items[:used, 0] = sequence
    items[:used, 1] = first
    items[:used, 2] = np.minimum(first + length, np.asarray(context_lens)[sequence])
    return items, item_start


def _balanced(blocks: NDArray[np.int64], num_items: int, block_size: int) -> NDArray[np.int64]:
    """Blocks per piece for each sequence, so that there are at most num_items pieces."""
    to_fill = num_items - len(blocks)
    if to_fill < 1:
        raise ValueError(f"{num_items} items are not more than {len(blocks)} sequences")
    longest = max(-(-int(blocks.sum()) // to_fill), -(-SHORTEST_PIECE // block_size))
    pieces = np.maximum(-(-blocks // longest), 1)
    return np.maximum(-(-blocks // pieces), 1)
