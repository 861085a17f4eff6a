"""Sets of ids as bits."""

from __future__ import annotations

import numpy as np
import pytest

from glmserve.runner.token_bitmask import Words, ban, bits_of_mask, bits_of_range


def ids_of(bits: Words) -> list[int]:
    unpacked = np.unpackbits(bits.view(np.uint8), bitorder="little")
    ids: list[int] = np.flatnonzero(unpacked).tolist()
    return ids


@pytest.mark.parametrize("size", [1, 31, 32, 33, 70])
def test_range(size: int) -> None:
    bits = bits_of_range(size, 70, without=(0, 69))
    assert bits.dtype == np.int32
    assert len(bits) == 3
    assert ids_of(bits) == [i for i in range(size) if i not in (0, 69)]


def test_short_masks_end_early_and_long_ones_are_cut() -> None:
    assert ids_of(bits_of_mask(b"\x05\x80", 70)) == [0, 2, 15]
    assert ids_of(bits_of_mask(b"\xff" * 100, 70))[:70] == list(range(70))
    assert len(bits_of_mask(b"\xff" * 100, 70)) == 3


def test_ban() -> None:
    everything = bits_of_range(70, 70)
    mask = bits_of_mask(b"\x07" + b"\x00" * 7 + b"\x80", 70)  # 0, 1, 2, and 71, which is no id
    assert ids_of(ban(mask, [2, 40], everything)) == [0, 1, 71]
    assert ids_of(ban(mask, [0, 1, 2], everything)) == [0, 1, 2, 71], "nothing would be left"
    assert ids_of(mask) == [0, 1, 2, 71]
