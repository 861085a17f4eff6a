"""Gathered adjustments against the sampler's own penalties and biases."""

from __future__ import annotations

import numpy as np
import pytest

from glmserve.contract.sampling import Sampling
from glmserve.contract.step import SamplingInput
from glmserve.runner.adjustments import gather_adjustments
from glmserve.runner.sampler import _bias, _penalise


def pack(tokens: list[int]) -> bytes:
    return np.array(tokens, dtype=np.int32).tobytes()


ROWS = [
    SamplingInput(),
    SamplingInput(sampling=Sampling(logit_bias={5: 1.5, 2: -3.0, -1: 9.0, 100: 9.0})),
    SamplingInput(
        history=pack([7, 7, -1, 100, 3]), prompt_length=1, sampling=Sampling(repetition_penalty=1.3)
    ),
    SamplingInput(history=pack([7, 3])),
    SamplingInput(
        history=pack([1, 3, 9, 3, 3, -1, 4]),
        prompt_length=2,
        sampling=Sampling(
            presence_penalty=0.5,
            frequency_penalty=-0.25,
            repetition_penalty=0.8,
            logit_bias={3: 2.0, 8: 1.0},
        ),
    ),
    SamplingInput(history=pack([1, 1]), prompt_length=2, sampling=Sampling(frequency_penalty=2.0)),
    SamplingInput(
        history=pack([1, 1, 0, 1]), prompt_length=2, sampling=Sampling(presence_penalty=2.0)
    ),
]


def apply(logits: np.ndarray, inputs: list[SamplingInput], banned: list[list[int]]) -> np.ndarray:
    """As the kernel does, in numpy."""
    adjustments = gather_adjustments(inputs, banned, logits.shape[1])
    if adjustments is not None:
        rows, ids, repetition, subtract, bias = adjustments
        assert len(set(zip(rows.tolist(), ids.tolist(), strict=True))) == len(ids)
        x = logits[rows, ids]
        x = np.where(x > 0, x / repetition, x * repetition) - subtract
        logits[rows, ids] = np.where(bias == -np.inf, bias, x + bias)
    return logits


@pytest.mark.parametrize("rows", [ROWS, ROWS[:1], ROWS[1:2], ROWS[2:3], ROWS[4:5], ROWS[6:]])
@pytest.mark.parametrize("vocab_size", [10, 1000])
def test_penalties_and_biases(rows: list[SamplingInput], vocab_size: int) -> None:
    """Rows with few ids for their vocabulary are counted another way than those with many."""
    logits = np.random.default_rng(0).normal(size=(len(rows), vocab_size)).astype(np.float32)
    want = logits.copy()
    for row, s in zip(want, rows, strict=True):
        _penalise(row, s)
        _bias(row, s.sampling.logit_bias)
    np.testing.assert_allclose(apply(logits, rows, [[]] * len(rows)), want, rtol=1e-6)


def test_a_ban_is_stronger_than_a_bias() -> None:
    logits = np.full((2, 10), np.nan, dtype=np.float32)
    got = apply(
        logits,
        [SamplingInput(), SamplingInput(sampling=Sampling(logit_bias={4: 9.0}))],
        [[], [4, 1]],
    )
    assert np.argwhere(got == -np.inf).tolist() == [[1, 1], [1, 4]]


def test_nothing_to_adjust() -> None:
    assert gather_adjustments([SamplingInput()], [[]], 10) is None
    outside = SamplingInput(
        history=pack([-1, 10]), sampling=Sampling(logit_bias={10: 1.0}, repetition_penalty=2.0)
    )
    assert gather_adjustments([outside], [[]], 10) is None
