"""Torch's own attention over the paged cache."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from glmserve.ops.attention.kv_store import ExactStore, Int8Store
from glmserve.ops.attention.sdpa import CpuSdpaAttention, SdpaAttention, decode_buckets
from support.attention_steps import Case, run_step

CPU = torch.device("cpu")

STORES: dict[str, type[ExactStore | Int8Store]] = {"exact": ExactStore, "int8": Int8Store}


def check(case: Case, backend: type[SdpaAttention], store: str = "exact", seed: int = 0) -> None:
    def make(case: Case) -> SdpaAttention:
        numbers = STORES[store](case.dtype)
        return backend(case.kv_heads, case.dtype, CPU, case.block_size, numbers)

    got, want = run_step(case, make, seed)
    if store == "int8":
        assert float((got - want).norm() / want.norm()) < 0.03
    else:
        tolerance = 1e-5 if case.dtype == torch.float32 else 3e-2
        torch.testing.assert_close(got.double(), want, rtol=0, atol=tolerance)


@pytest.mark.parametrize("backend", [SdpaAttention, CpuSdpaAttention])
@pytest.mark.parametrize("store", STORES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(("heads", "kv_heads"), [(4, 2), (4, 4), (6, 1), (9, 3), (1, 1)])
@pytest.mark.parametrize(
    "sequences",
    [
        [(0, 1)],
        [(9, 1)],
        [(7, 1), (7, 1), (7, 1)],
        [(1, 1), (30, 1), (12, 1)],
        [(0, 9)],
        [(5, 9)],
        [(5, 9), (40, 1), (0, 3), (2, 1), (8, 2)],
    ],
)
def test_head_groups(
    backend: type[SdpaAttention],
    store: str,
    dtype: torch.dtype,
    heads: int,
    kv_heads: int,
    sequences: list[tuple[int, int]],
) -> None:
    check(Case(sequences, heads, kv_heads, dtype=dtype), backend, store)


@given(
    sequences=st.lists(
        st.tuples(st.integers(0, 60), st.sampled_from([1, 1, 1, 2, 5, 17])), min_size=1, max_size=8
    ),
    dim=st.sampled_from([2, 3, 16, 64]),
    block_size=st.sampled_from([1, 3, 16]),
    seed=st.integers(0, 1000),
)
@hypothesis_settings(max_examples=60)
def test_any_step(sequences: list[tuple[int, int]], dim: int, block_size: int, seed: int) -> None:
    check(Case(sequences, dim=dim, block_size=block_size), SdpaAttention, seed=seed)


CONTEXTS_FIRST = [(0, 9), (12, 1), (0, 5), (7, 4), (3, 1)]
CONTEXTS = [9, 4, 3, 5, 0]
"""All of the step, some before it, some of it, some before several new tokens, none."""


@pytest.mark.parametrize("backend", [SdpaAttention, CpuSdpaAttention])
@pytest.mark.parametrize("store", STORES)
def test_contexts_seen_by_all(backend: type[SdpaAttention], store: str) -> None:
    check(Case(CONTEXTS_FIRST, contexts=CONTEXTS), backend, store)


@given(
    sequences=st.lists(
        st.tuples(st.integers(0, 12), st.integers(0, 9), st.integers(1, 7)), min_size=1, max_size=6
    ),
    block_size=st.sampled_from([1, 3, 16]),
)
@hypothesis_settings(max_examples=40)
def test_any_contexts(sequences: list[tuple[int, int, int]], block_size: int) -> None:
    """Each (context, tokens behind it that were there before, new ones); a context begins anew."""
    steps = [(c + b, n) if b else (0, c + n) for c, b, n in sequences]
    case = Case(steps, block_size=block_size, contexts=[c for c, _, _ in sequences])
    check(case, SdpaAttention)


def test_lengths_that_differ_a_lot_are_not_padded_to_the_longest() -> None:
    case = Case([(2000, 1), *[(20 + i, 1) for i in range(15)]], block_size=16)
    check(case, SdpaAttention)


class TestBuckets:
    def test_equal_lengths_stay_together(self) -> None:
        assert decode_buckets(np.array([100] * 16)) == [(0, 16)]

    def test_none(self) -> None:
        assert decode_buckets(np.array([], dtype=np.int64)) == []

    def test_padding_is_bounded(self) -> None:
        rng = np.random.default_rng(0)
        lengths = np.sort(rng.integers(1, 4000, 64))[::-1]
        buckets = decode_buckets(lengths)
        assert [i for first, last in buckets for i in range(first, last)] == list(range(64))
        for first, last in buckets:
            assert int((lengths[first] - lengths[first:last]).sum()) <= 512
