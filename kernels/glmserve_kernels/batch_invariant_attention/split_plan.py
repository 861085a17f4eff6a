"""Cuts tokens and contexts into items, one per program. Plain numpy: planning needs no torch."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from glmserve_kernels.paged_decode.split_plan import split_contexts
from glmserve_kernels.paged_prefill.split_plan import query_tiles

Int32s = NDArray[np.int32]

ROWS = 64
"""Rows of a program: tokens times query heads per key head. The same on every chip and for one
token as well, because a product of another shape may be summed in another order."""
PIECE = 512
"""Positions; contexts are cut at multiples of it."""
SHORTEST_PIECE = 64
"""Pieces are multiples of it, because the kernel's steps must not cross their ends."""


def tokens_per_tile(group: int) -> int:
    """Tokens per program, with `group` query heads per key head."""
    return max(1, ROWS // group)


def max_items(query_lens: NDArray[np.integer], max_context: int, group: int, piece: int) -> int:
    """Bound on the items that split_step makes, for any contexts of up to `max_context`
    positions."""
    tiles = -(-np.asarray(query_lens) // tokens_per_tile(group))
    pieces = -(-max_context // piece)
    return int(np.where(np.asarray(query_lens) == 1, pieces, tiles).sum())


def split_step(
    query_lens: NDArray[np.integer],
    context_lens: NDArray[np.integer],
    num_items: int,
    *,
    group: int,
    block_size: int,
    piece: int = PIECE,
) -> tuple[Int32s, Int32s]:
    """Cut a step into items: pieces of the context of a sequence with one new token, or tiles of
    the new tokens of a sequence with several.

    Args:
        query_lens: [B], new tokens of each sequence.
        context_lens: [B], positions of each sequence, those of its new tokens included. A sequence
            with one new token and an empty context has no items.
        num_items: rows of the result.
        group: query heads per key head.
        block_size: positions in a cache block.
        piece: a multiple of `block_size` and of SHORTEST_PIECE.

    Returns:
        items int32 [num_items, 4]: (sequence, its first query, first position, end position), by
        sequence; a piece's positions, or all that the tile's last token sees. Unused rows are -1.
        item_start int32 [B + 1]: items of sequence b are item_start[b]..item_start[b+1]-1.

    Raises:
        ValueError: there are more items than num_items, or `piece` is not such a multiple.
    """
    if piece % SHORTEST_PIECE:
        raise ValueError(f"pieces of {piece} positions are no multiple of {SHORTEST_PIECE}")
    queries, contexts = np.asarray(query_lens), np.asarray(context_lens)
    single = queries == 1
    pieces, _ = split_contexts(
        np.where(single, contexts, 0),
        int((-(-contexts // piece)).sum()),
        block_size=block_size,
        piece=piece,
    )
    pieces = pieces[pieces[:, 0] >= 0]
    tokens = tokens_per_tile(group)
    tiles = query_tiles(np.where(single, 0, queries), tokens)
    sequence, first = tiles.T
    ends = (contexts - queries)[sequence] + np.minimum(first + tokens, queries[sequence])
    found = np.concatenate(
        (
            np.insert(pieces, 1, 0, axis=1),
            np.stack((sequence, first, np.zeros_like(first), ends), 1),
        )
    ).astype(np.int32)
    if len(found) > num_items:
        raise ValueError(f"there are {len(found)} pieces and tiles, but only {num_items} items")
    found = found[np.argsort(found[:, 0], kind="stable")]
    items = np.full((num_items, 4), -1, np.int32)
    items[: len(found)] = found
    item_start = np.searchsorted(found[:, 0], np.arange(len(queries) + 1)).astype(np.int32)
    return items, item_start
