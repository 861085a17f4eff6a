"""Paged attention against plain softmax attention per token, over a cache full of NaN."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from torch import Tensor

from glmserve.ops.attention import AttentionBackend, decode_buckets
from glmserve.ops.cpu import CpuAttention
from glmserve.runner.batch import build_batch
from glmserve.step import ScheduledSequence, StepInput

CPU = torch.device("cpu")


@dataclass
class Case:
    """One step over sequences of (tokens before, new tokens)."""

    sequences: list[tuple[int, int]]
    heads: int = 4
    kv_heads: int = 2
    dim: int = 8
    block_size: int = 4
    dtype: torch.dtype = torch.float32


def run(case: Case, backend: type[AttentionBackend], seed: int = 0) -> tuple[Tensor, Tensor]:
    """What the backend gives, and what it should: [T, heads, dim] in the order of the sequences."""
    generator = torch.Generator().manual_seed(seed)
    attention = backend(case.kv_heads, case.dtype, CPU)
    rng = np.random.default_rng(seed)
    counts = [-(-(before + new) // case.block_size) for before, new in case.sequences]
    blocks = rng.permutation(sum(counts) + 3).astype(np.int32)
    tables = np.split(blocks, np.cumsum(counts))[:-1]
    cache = attention.allocate(1, len(blocks) * case.block_size, case.dim)[0]
    cache[:-1] = float("nan")

    def random(tokens: int) -> Tensor:
        shape = (tokens, case.heads + 2 * case.kv_heads, case.dim)
        return torch.randn(shape, generator=generator).to(case.dtype)

    whole = [random(before + new) for before, new in case.sequences]
    for (before, _), table, qkv in zip(case.sequences, tables, whole, strict=True):
        slots = torch.from_numpy(table.astype(np.int64)).repeat_interleave(case.block_size)
        slots = slots * case.block_size + torch.arange(len(slots)) % case.block_size
        cache[slots[:before]] = qkv[:before, case.heads :]
    step = StepInput(
        0,
        [
            ScheduledSequence(i, [0] * new, before, table.tobytes(), None)
            for i, ((before, new), table) in enumerate(zip(case.sequences, tables, strict=True))
        ],
    )
    batch = build_batch(step, case.block_size)
    decodes = [i for i, (_, new) in enumerate(case.sequences) if new == 1]
    decodes.sort(key=lambda i: -case.sequences[i][0])
    order = decodes + [i for i in range(len(whole)) if i not in decodes]
    qkv = torch.cat([whole[i][case.sequences[i][0] :] for i in order])
    plan = attention.plan(batch, cache)
    attention.write(qkv[:, case.heads :], cache, plan)
    got = attention.run(qkv, cache, plan)
    want = torch.cat([reference(whole[i], case)[case.sequences[i][0] :] for i in order])
    assert not cache[-1].any(), "the null slot was written"
    return got, want


def reference(qkv: Tensor, case: Case) -> Tensor:
    """Causal attention of one whole sequence in float64: [L, heads, dim]."""
    q, k, v = qkv.double().split([case.heads, case.kv_heads, case.kv_heads], dim=1)
    group = case.heads // case.kv_heads
    k, v = k.repeat_interleave(group, 1), v.repeat_interleave(group, 1)
    scores = torch.einsum("thd,shd->hts", q, k) / case.dim**0.5
    beyond = torch.ones(len(q), len(q)).triu(1).bool()
    return torch.einsum("hts,shd->thd", scores.masked_fill(beyond, -torch.inf).softmax(-1), v)


def check(case: Case, backend: type[AttentionBackend], seed: int = 0) -> None:
    got, want = run(case, backend, seed)
    tolerance = 1e-5 if case.dtype == torch.float32 else 3e-2
    torch.testing.assert_close(got.double(), want, rtol=0, atol=tolerance)


@pytest.mark.parametrize("backend", [AttentionBackend, CpuAttention])
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
    backend: type[AttentionBackend],
    dtype: torch.dtype,
    heads: int,
    kv_heads: int,
    sequences: list[tuple[int, int]],
) -> None:
    check(Case(sequences, heads, kv_heads, dtype=dtype), backend)


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
    check(Case(sequences, dim=dim, block_size=block_size), AttentionBackend, seed)


def test_lengths_that_differ_a_lot_are_not_padded_to_the_longest() -> None:
    case = Case([(2000, 1), *[(20 + i, 1) for i in range(15)]], block_size=16)
    check(case, AttentionBackend)


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
