"""Tokens drawn by the compiled CPU kernels: the same as the reference in numpy draws."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from glmserve.contract.sampling import Sampling
from glmserve.contract.step import INVALID_TOKEN_ID, SamplingInput
from glmserve.ops.sampling.draw import draw_row
from glmserve_cpu_kernels.library import Library
from glmserve_cpu_kernels.sampling import DRAW, draw
from support.flat_sampling import sampling_input

OPTIONS = st.fixed_dictionaries(
    {
        "noise_key": st.integers(0, 2**64 - 1),
        "temperature": st.sampled_from([1e-4, 0.3, 1.0, 2.0, 50.0]),
        "top_p": st.sampled_from([1.0, 0.999, 0.8, 0.3, 1e-6]),
        "top_k": st.sampled_from([0, 0, 1, 5, 100, 10**6]),
        "min_p": st.sampled_from([0.0, 0.0, 0.05, 1.0]),
    }
)


def native(library: Library, logits: np.ndarray, inputs: list[SamplingInput]) -> list[int]:
    pairs = [(s.noise_key, s.sampling) for s in inputs]
    how = [(key, p.top_p, p.temperature, p.min_p, p.top_k) for key, p in pairs]
    return draw(library, logits, range(len(inputs)), np.array(how, dtype=DRAW))


def random_logits(rng: np.random.Generator, vocab: int, kind: str) -> np.ndarray:
    match kind:
        case "peaked":
            logits = rng.normal(0, 6, vocab)
        case "flat":
            logits = rng.normal(0, 0.01, vocab)
        case "equal":  # many ties, which go by id
            logits = rng.integers(0, 3, vocab).astype(np.float64)
        case _:  # most are ruled out, as by a structure
            logits = rng.normal(0, 3, vocab)
            logits[rng.random(vocab) < 0.99] = -np.inf
            logits[rng.integers(vocab)] = 1.0
    return logits.astype(np.float32)


def are_cuts_clear(logits: np.ndarray, s: SamplingInput) -> bool:
    """Whether top_k and top_p keep the same tokens however exp is rounded: those beside a cut have
    the same logit, so that their ids decide, or weights that differ by more than rounding."""
    order = np.argsort(-logits, kind="stable")
    ordered = logits[order].astype(np.float64)
    weights = np.exp((ordered - ordered[0]) / s.sampling.temperature)
    kept = len(weights)
    for top_k, top_p in ((s.sampling.top_k, 1.0), (s.sampling.top_k, s.sampling.top_p)):
        if 0 < top_k < kept:
            kept = top_k
        if top_p < 1:
            kept = int((np.cumsum(weights[:kept]) < top_p * weights[:kept].sum()).sum()) + 1
        is_cut = kept < len(weights) and ordered[kept - 1] != ordered[kept]
        if is_cut and weights[kept - 1] - weights[kept] < 1e-6 * weights[kept - 1]:
            return False
    return True


@given(
    inputs=st.lists(OPTIONS, min_size=1, max_size=3),
    vocab=st.sampled_from([1, 2, 15, 16, 17, 300, 1025, 5000]),
    kind=st.sampled_from(["peaked", "flat", "equal", "ruled out"]),
    seed=st.integers(0, 2**32 - 1),
)
@settings(
    max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture], database=None
)
def test_same_as_the_reference(
    library: Library, inputs: list[dict[str, float]], vocab: int, kind: str, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    rows = np.stack([random_logits(rng, vocab, kind) for _ in inputs])
    given_inputs = [sampling_input(**options) for options in inputs]
    assume(all(map(are_cuts_clear, rows, given_inputs)))
    want = [
        draw_row(row, s.noise_key, s.sampling) for row, s in zip(rows, given_inputs, strict=True)
    ]
    assert native(library, rows, given_inputs) == want


def test_a_whole_vocabulary(library: Library) -> None:
    rng = np.random.default_rng(0)
    rows = rng.normal(0, 3, (8, 65024)).astype(np.float32)
    for options in ({}, {"top_p": 0.9}, {"top_k": 50}, {"top_p": 0.8, "top_k": 1000}):
        inputs = [sampling_input(noise_key=i, temperature=0.9, **options) for i in range(8)]
        want = [draw_row(row, s.noise_key, s.sampling) for row, s in zip(rows, inputs, strict=True)]
        assert native(library, rows, inputs) == want


@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.parametrize("place", [0, 17, 39])
def test_not_finite(library: Library, bad: float, place: int) -> None:
    rows = np.zeros((3, 40), dtype=np.float32)
    rows[1, place] = bad
    rows[2] = -np.inf
    tokens = native(library, rows, [SamplingInput(sampling=Sampling(temperature=1.0))] * 3)
    assert tokens[0] >= 0
    assert tokens[1:] == [INVALID_TOKEN_ID] * 2


def test_nothing_ruled_out_is_ever_drawn(library: Library) -> None:
    rows = np.full((64, 700), -np.inf, dtype=np.float32)
    rows[:, [3, 650]] = 0.0
    inputs = [SamplingInput(noise_key=i, sampling=Sampling(temperature=100.0)) for i in range(64)]
    assert set(native(library, rows, inputs)) == {3, 650}
