"""The most likely tokens, with many equal numbers among them."""

from __future__ import annotations

import math

import pytest
import torch

from glmserve.runner.top_tokens import top_tokens


def sorted_row(row: list[float]) -> list[tuple[float, int]]:
    return sorted(((-value, i) for i, value in enumerate(row)))


@pytest.mark.parametrize("kinds", [1, 2, 5, 1000])
@pytest.mark.parametrize("rows", [0, 1, 7])
def test_of_equal_numbers_the_lowest_ids_come_first(rows: int, kinds: int) -> None:
    generator = torch.Generator().manual_seed(kinds)
    log_probs = -torch.randint(kinds, (rows, 40), generator=generator).float()
    log_probs[:, 3::11] = -math.inf
    wanted = [sorted_row(row) for row in log_probs.tolist()]
    for count in (0, 1, 2, 5, 20, 39, 40):
        values, ids = top_tokens(log_probs.clone(), count)
        assert values.shape == ids.shape == (rows, count)
        found = zip(values.tolist(), ids.tolist(), strict=True)
        pairs = [list(zip((-v for v in row), of_row, strict=True)) for row, of_row in found]
        assert pairs == [row[:count] for row in wanted]


def test_a_part_of_the_vocabulary() -> None:
    """The numbers behind it are neither looked at nor changed."""
    whole = torch.zeros(2, 10)
    whole[:, 6:] = 5
    values, ids = top_tokens(whole[:, :6], 3)
    assert values.tolist() == [[0.0] * 3] * 2
    assert ids.tolist() == [[0, 1, 2]] * 2
    assert (whole[:, 6:] == 5).all()
