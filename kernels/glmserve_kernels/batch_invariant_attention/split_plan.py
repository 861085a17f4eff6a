"""How tokens and their contexts are cut up among programs. Plain numpy: planning needs no torch."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from glmserve_kernels.paged_decode.split_plan import split_work
from glmserve_kernels.paged_prefill.split_plan import query_tiles

Int32s = NDArray[np.int32]

ROWS = 64
"""Of a program: tokens times query heads per key head. On every chip, and for one token as well: a
product of other shape may be summed in another order."""
PIECE = 512
"""Positions; contexts are cut at multiples of it."""
SHORTEST_PIECE = 64
"""Pieces are multiples of it, because the kernel's steps must not cross their ends."""


def tokens_per_tile(group: int) -> int:
    """How many tokens with `group` query heads per key head a program takes."""
    return max(1, ROWS // group)


def max_items(query_lens: NDArray[np.integer], max_context: int, group: int, piece: int) -> int:
    """Bound on the items that plan makes, for any contexts of up to `max_context` positions."""
    tiles = -(-np.asarray(query_lens) // tokens_per_tile(group))
    pieces = -(-max_context // piece)
    return int(np.where(np.asarray(query_lens) == 1, pieces, tiles).sum())


def plan(
    query_lens: NDArray[np.integer],
    context_lens: NDArray[np.integer],
    num_items: int,
    *,
    group: int,
    page: int,
    piece: int = PIECE,
) -> tuple[Int32s, Int32s]:
    """A sequence with one new token is cut into pieces of its context, others into tiles of tokens.

    Args:
        query_lens: [B], new tokens of each sequence.
        context_lens: [B], positions of each sequence, those of its new tokens included. A sequence
            of one token and none has no work.
        num_items: rows of the result.
        group: query heads per key head.
        page: positions in a cache block.
        piece: a multiple of `page` and of SHORTEST_PIECE.

    Returns:
        work int32 [num_items, 4]: (sequence, its first query, first position, end position), by
        sequence; a piece's positions, or all that the tile's last token sees. Unused rows are -1.
        work_start int32 [B + 1]: items of sequence b are work_start[b]..work_start[b+1]-1.

    Raises:
        ValueError: there are more items than num_items, or `piece` cannot be had.
    """
    if piece % SHORTEST_PIECE:
        raise ValueError(f"pieces of {piece} positions are no multiple of {SHORTEST_PIECE}")
    queries, contexts = np.asarray(query_lens), np.asarray(context_lens)
    single = queries == 1
    pieces, _ = split_work(
        np.where(single, contexts, 0), int((-(-contexts // piece)).sum()), page=page, piece=piece
    )
    pieces = pieces[pieces[:, 0] >= 0]
    tokens = tokens_per_tile(group)
    tiles = query_tiles(np.where(single, 0, queries), tokens)
    sequence, first = tiles.T
    ends = (contexts - queries)[sequence] + np.minimum(first + tokens, queries[sequence])
    items = np.concatenate(
        (
            np.insert(pieces, 1, 0, axis=1),
            np.stack((sequence, first, np.zeros_like(first), ends), 1),
        )
    ).astype(np.int32)
    if len(items) > num_items:
        raise ValueError(f"there are {len(items)} pieces and tiles, but only {num_items} items")
    items = items[np.argsort(items[:, 0], kind="stable")]
    work = np.full((num_items, 4), -1, np.int32)
    work[: len(items)] = items
    work_start = np.searchsorted(items[:, 0], np.arange(len(queries) + 1)).astype(np.int32)
    return work, work_start
