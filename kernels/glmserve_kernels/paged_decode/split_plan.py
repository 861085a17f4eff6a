"""How contexts are cut up among programs. Plain numpy: planning needs no torch."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Int32s = NDArray[np.int32]

PROGRAMS_PER_MULTIPROCESSOR = 4
SHORTEST_PIECE = 256
"""Positions: below it, merging costs more than sharing the work gains."""


def max_items(batch: int, kv_heads: int, multiprocessors: int) -> int:
    """Bound on the items that split_work makes for any contexts of `batch` sequences on a chip.

    One program runs per item and key head; `batch` more than fill the chip because each sequence
    may end in a piece that is not full.
    """
    return batch + -(-PROGRAMS_PER_MULTIPROCESSOR * multiprocessors // kv_heads)


def max_fixed_items(batch: int, max_context: int, piece: int) -> int:
    """The same, for pieces of a fixed size and contexts of up to `max_context` positions."""
    return batch * -(-max_context // piece)


def split_work(
    context_lens: NDArray[np.integer], num_items: int, *, page: int, piece: int | None = None
) -> tuple[Int32s, Int32s]:
    """Cut contexts into about equal pieces, or into pieces of `piece` positions.

    Args:
        context_lens: [B], 0 for a sequence without work.
        num_items: rows of the result; more than B unless `piece` is given.
        page: positions in a cache block; pieces begin at multiples of it.
        piece: a multiple of `page`. The cuts then do not depend on the other sequences.

    Returns:
        work int32 [num_items, 3]: (sequence, first position, end position), by sequence, then by
        position; unused rows are -1.
        work_start int32 [B + 1]: items of sequence b are work_start[b]..work_start[b+1]-1.

    Raises:
        ValueError: num_items or `piece` cannot be had.
    """
    pages = -(-np.asarray(context_lens, np.int64) // page)
    if piece is None:
        pages_per_piece = _balanced(pages, num_items, page)
    elif piece > 0 and piece % page == 0:
        pages_per_piece = np.full_like(pages, piece // page)
    else:
        raise ValueError(f"pieces of {piece} positions are no multiple of the page, {page}")
    counts = -(-pages // pages_per_piece)
    work_start = np.concatenate(([0], np.cumsum(counts))).astype(np.int32)
    used = int(work_start[-1])
    if used > num_items:
        raise ValueError(f"{used} pieces of {piece} positions, but only {num_items} items")
    sequence = np.repeat(np.arange(len(pages)), counts)
    length = pages_per_piece[sequence] * page
    first = (np.arange(used) - work_start[sequence]) * length
    work = np.full((num_items, 3), -1, np.int32)
    work[:used, 0] = sequence
    work[:used, 1] = first
    work[:used, 2] = np.minimum(first + length, np.asarray(context_lens)[sequence])
    return work, work_start


def _balanced(pages: NDArray[np.int64], num_items: int, page: int) -> NDArray[np.int64]:
    """Pages per piece for each sequence, so that there are at most num_items pieces."""
    to_fill = num_items - len(pages)
    if to_fill < 1:
        raise ValueError(f"{num_items} items are not more than {len(pages)} sequences")
    longest = max(-(-int(pages.sum()) // to_fill), -(-SHORTEST_PIECE // page))
    pieces = np.maximum(-(-pages // longest), 1)
    return np.maximum(-(-pages // pieces), 1)
