"""Attention's split plans: every position once, in order, within the documented bounds."""

from __future__ import annotations

import subprocess
import sys
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from glmserve_kernels.batch_invariant_attention import split_plan as batch_invariant
from glmserve_kernels.paged_decode.split_plan import (
    SHORTEST_PIECE,
    max_fixed_items,
    max_items,
    split_contexts,
)
from glmserve_kernels.paged_prefill.split_plan import max_tiles, query_tiles, tokens_per_tile

BLOCK_SIZES = st.sampled_from([16, 32, 64, 128])
CONTEXTS = st.lists(st.integers(0, 40_000) | st.integers(0, 300), min_size=1, max_size=40)

Piece = tuple[int, int]
"""First and end position."""


def pieces_of(items: np.ndarray, item_start: np.ndarray) -> list[list[Piece]]:
    """The pieces of each sequence, after checking dtypes, padding and order of the items."""
    assert items.dtype == item_start.dtype == np.int32
    assert item_start[0] == 0
    assert (items[item_start[-1] :] == -1).all()
    pieces = []
    for sequence, (begin, end) in enumerate(pairwise(item_start)):
        own = items[begin:end]
        assert (own[:, 0] == sequence).all()
        pieces.append([(int(first), int(last)) for first, last in own[:, -2:]])
    return pieces


def check_cover(pieces: list[Piece], context: int) -> None:
    """Positions 0..context-1, each once, in order, no piece empty."""
    assert [end for _, end in pieces[:-1]] == [first for first, _ in pieces[1:]]
    assert all(first < end for first, end in pieces)
    if context:
        assert (pieces[0][0], pieces[-1][1]) == (0, context)
    else:
        assert not pieces


@given(CONTEXTS, BLOCK_SIZES, st.sampled_from([1, 2, 32]), st.integers(1, 200))
def test_balanced_pieces(
    contexts: list[int], block_size: int, kv_heads: int, multiprocessors: int
) -> None:
    num_items = max_items(len(contexts), kv_heads, 4 * multiprocessors)
    items, item_start = split_contexts(np.array(contexts), num_items, block_size=block_size)
    assert items.shape == (num_items, 3)
    longest = 0
    for pieces, context in zip(pieces_of(items, item_start), contexts, strict=True):
        check_cover(pieces, context)
        assert all(first % block_size == 0 for first, _ in pieces)
        lengths = [end - first for first, end in pieces]
        # Within a sequence they are equal, but for the last one.
        assert len(set(lengths[:-1])) <= 1
        assert all(length >= SHORTEST_PIECE // 2 for length in lengths[:-1])
        longest = max(longest, *lengths, 0)
    to_fill = num_items - len(contexts)
    rounded = sum(-(-context // block_size) * block_size for context in contexts)
    assert longest <= max(-(-rounded // to_fill) + block_size, SHORTEST_PIECE)


@given(CONTEXTS, BLOCK_SIZES, st.integers(1, 20))
def test_fixed_pieces_do_not_depend_on_the_batch(
    contexts: list[int], block_size: int, blocks: int
) -> None:
    piece = block_size * blocks
    num_items = max_fixed_items(len(contexts), max(contexts), piece)
    items, item_start = split_contexts(
        np.array(contexts), num_items, block_size=block_size, piece=piece
    )
    for pieces, context in zip(pieces_of(items, item_start), contexts, strict=True):
        starts = range(0, context, piece)
        assert pieces == [(first, min(first + piece, context)) for first in starts]


def test_one_long_context_fills_the_chip() -> None:
    num_items = max_items(1, 2, 4 * 132)
    items, item_start = split_contexts(np.array([65_536]), num_items, block_size=64)
    assert item_start.tolist() == [0, 256]
    assert items[255].tolist() == [0, 65_280, 65_536]


@pytest.mark.parametrize(
    ("num_items", "piece", "message"),
    [
        (2, None, "2 items are not more than 2 sequences"),
        (3, 64, "4 pieces of 64 positions, but only 3 items"),
        (9, 24, "pieces of 24 positions are no multiple of the block size, 16"),
        (9, 0, "pieces of 0 positions"),
    ],
)
def test_refusals(num_items: int, piece: int | None, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        split_contexts(np.array([100, 100]), num_items, block_size=16, piece=piece)


@given(st.lists(st.integers(0, 500), min_size=1, max_size=20), st.integers(1, 64))
def test_query_tiles(query_lens: list[int], tile: int) -> None:
    tiles = query_tiles(np.array(query_lens), tile)
    assert tiles.dtype == np.int32
    expected = [
        [sequence, first]
        for sequence, length in enumerate(query_lens)
        for first in reversed(range(0, length, tile))
    ]
    assert tiles.tolist() == expected
    assert len(tiles) <= max_tiles(sum(query_lens), len(query_lens), tile)


def test_no_more_query_tiles_than_there_can_be() -> None:
    assert len(query_tiles(np.array([1, 1, 30]), 8)) == max_tiles(32, 3, 8) == 6


@pytest.mark.parametrize(("group", "expected"), [(1, 64), (16, 4), (3, 21), (64, 1), (71, 1)])
def test_tokens_per_tile(group: int, expected: int) -> None:
    assert tokens_per_tile(group, {"BLOCK_M": 64}) == expected
    assert batch_invariant.tokens_per_tile(group) == expected


@given(
    st.lists(st.tuples(st.integers(0, 3) | st.integers(0, 200), st.integers(0, 3000)), min_size=1),
    BLOCK_SIZES,
    st.sampled_from([1, 3, 16]),
)
def test_batch_invariant_plan(
    sequences: list[tuple[int, int]], block_size: int, group: int
) -> None:
    queries = np.array([new for new, _ in sequences])
    contexts = queries + np.array([cached for _, cached in sequences])
    num_items = batch_invariant.max_items(queries, int(contexts.max()), group, 256)
    items, item_start = batch_invariant.split_step(
        queries, contexts, num_items, group=group, block_size=block_size, piece=256
    )
    assert items.shape == (num_items, 4)
    tokens = batch_invariant.tokens_per_tile(group)
    by_sequence = pieces_of(items, item_start)
    for sequence, (new, cached) in enumerate(sequences):
        firsts = items[item_start[sequence] : item_start[sequence + 1], 1].tolist()
        if new == 1:
            check_cover(by_sequence[sequence], cached + 1)
            assert all(first % 256 == 0 for first, _ in by_sequence[sequence])
            assert not any(firsts)
        else:
            assert sorted(firsts) == list(range(0, new, tokens))
            ends = [(0, cached + min(first + tokens, new)) for first in firsts]
            assert by_sequence[sequence] == ends


def test_batch_invariant_plan_of_padding() -> None:
    items, item_start = batch_invariant.split_step(
        np.array([1, 1]), np.array([0, 5]), 3, group=2, block_size=16, piece=64
    )
    assert items.tolist() == [[1, 0, 0, 5], [-1] * 4, [-1] * 4]
    assert item_start.tolist() == [0, 0, 1]


@pytest.mark.parametrize(("piece", "message"), [(96, "multiple of 64"), (64, "2 pieces and tiles")])
def test_batch_invariant_refusals(piece: int, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        batch_invariant.split_step(
            np.array([1]), np.array([70]), 1, group=1, block_size=16, piece=piece
        )


def test_planning_needs_neither_torch_nor_triton() -> None:
    modules = ", ".join(
        f"glmserve_kernels.{name}.split_plan"
        for name in ("paged_decode", "paged_prefill", "batch_invariant_attention")
    )
    check = f"import sys, {modules}; sys.exit('torch' in sys.modules or 'triton' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", check]).returncode == 0
