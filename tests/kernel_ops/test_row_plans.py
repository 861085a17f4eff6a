"""Rows with adapters, cut into tiles for programs."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from glmserve.ops.adapters.rows import NO_SLOT, group_rows
from glmserve_kernels.add_lora.row_plan import TILE_ROWS, max_tiles, plan_tiles


@given(slots=st.lists(st.integers(NO_SLOT, 5), max_size=80), more=st.integers(0, 3))
def test_each_row_with_a_slot_is_in_one_tile_of_its_slot(slots: list[int], more: int) -> None:
    order, found, starts = group_rows(np.array(slots, dtype=np.int64))
    used = len(plan_tiles(found, starts))
    tiles = plan_tiles(found, starts, used + more)
    assert (tiles[used:] == -1).all()
    rows = []
    for slot, first, count in tiles[:used].tolist():
        assert 1 <= count <= TILE_ROWS
        assert [slots[row] for row in order[first : first + count]] == [slot] * count
        rows += order[first : first + count].tolist()
    assert sorted(rows) == [row for row, slot in enumerate(slots) if slot != NO_SLOT]


@given(slots=st.lists(st.integers(NO_SLOT, 9), min_size=1, max_size=64))
def test_static_plans_have_enough_tiles(slots: list[int]) -> None:
    _, found, starts = group_rows(np.array(slots, dtype=np.int64))
    assert len(plan_tiles(found, starts)) <= max_tiles(len(slots), len(found))


def test_no_more_tiles_than_there_can_be() -> None:
    """Nine slots with one row each, and one with the others."""
    slots = np.array([*range(9), *[9] * 55])
    _, found, starts = group_rows(slots)
    assert len(plan_tiles(found, starts)) == max_tiles(64, 10) == 13
    assert max_tiles(3, 100) == 3
