"""Paged attention of the compiled CPU kernels."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor

from glmserve.config import KvCacheDType
from glmserve.ops.attention.native_cpu import NativeCpuAttention
from glmserve_cpu_kernels.attention import KvCache, Step
from glmserve_cpu_kernels.library import Library
from support.attention_steps import Case, compute_step, run_step

SUBBLOCK = 32
SPAN = 512
"""Tokens that have a softmax of their own."""


def maker(library: Library, stored: KvCacheDType = "auto") -> Callable[[Case], NativeCpuAttention]:
    def make(case: Case) -> NativeCpuAttention:
        return NativeCpuAttention(case.kv_heads, case.block_size, case.dtype, stored, library)

    return make


def check(library: Library, case: Case, stored: KvCacheDType = "auto", seed: int = 0) -> None:
    """Against float64: sums of float32; weights rounded to bfloat16; or K and V as codes."""
    got, want = run_step(case, maker(library, stored), seed)
    if stored == "int8":
        assert float((got - want).norm() / want.norm()) < 0.03
    else:
        tolerance = 1e-5 if case.dtype == torch.float32 else 3e-2
        torch.testing.assert_close(got.double(), want, rtol=0, atol=tolerance)


@pytest.mark.parametrize("stored", ["auto", "int8"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(("heads", "kv_heads"), [(4, 2), (26, 2), (9, 3), (1, 1)])
def test_head_groups(
    library: Library, stored: KvCacheDType, dtype: torch.dtype, heads: int, kv_heads: int
) -> None:
    """Sequences that begin, end, or go on at, before and behind the edges of blocks."""
    sequences = [(0, 1), (SUBBLOCK - 1, 1), (SUBBLOCK, 1), (0, 9), (5, 30), (7, 1), (7, 1), (63, 2)]
    check(library, Case(sequences, heads, kv_heads, block_size=SUBBLOCK, dtype=dtype), stored)


@pytest.mark.parametrize(
    "sequences", [[(0, 1)], [(SUBBLOCK - 1, 1)], [(SUBBLOCK, 1)], [(0, 2 * SUBBLOCK)]]
)
def test_alone(library: Library, sequences: list[tuple[int, int]]) -> None:
    check(library, Case(sequences, block_size=SUBBLOCK))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(
    ("dim", "block_size"),
    [(36, SUBBLOCK), (64, 2 * SUBBLOCK), (128, SUBBLOCK), (256, 3 * SUBBLOCK), (512, SUBBLOCK)],
)
def test_dims_and_block_sizes(
    library: Library, dtype: torch.dtype, dim: int, block_size: int
) -> None:
    check(library, Case([(0, 40), (99, 1), (3, 2)], 6, 2, dim, block_size, dtype))


@pytest.mark.parametrize(
    ("before", "new"), [(SPAN - 1, 1), (SPAN, 1), (SPAN - 1, 3), (2 * SPAN + 40, 50)]
)
def test_spans(library: Library, before: int, new: int) -> None:
    check(library, Case([(before, new), (3, 1)], 4, 2, 32, SUBBLOCK))


@pytest.mark.parametrize(("stored", "spread"), [("auto", 5.0), ("auto", 200.0), ("int8", 5.0)])
def test_scores_that_outgrow_those_before(
    library: Library, stored: KvCacheDType, spread: float
) -> None:
    """By far more than weights may be greater than 1, so that sums are scaled again."""
    case = Case([(900, 3), (70, 40), (600, 1)], dim=64, block_size=32, spread=spread)
    got, want = run_step(case, maker(library, stored))
    if stored == "int8":
        assert float((got - want).norm() / want.norm()) < 0.1
    else:
        torch.testing.assert_close(got.double(), want, rtol=0, atol=1e-4)


def test_contexts_seen_by_all(library: Library) -> None:
    sequences, contexts = [(0, 90), (70, 1), (0, 5), (67, 4)], [80, 66, 5, 64]
    check(library, Case(sequences, block_size=SUBBLOCK, contexts=contexts))


@pytest.mark.parametrize("stored", ["auto", "int8"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_bits_do_not_depend_on_the_step(
    library: Library, stored: KvCacheDType, dtype: torch.dtype
) -> None:
    """One token alone, with one thread or several, in a chunk, and beside others."""

    def last_row(sequences: list[tuple[int, int]], threads: int) -> Tensor:
        library.set_threads(threads)
        got = compute_step(Case(sequences, 6, 2, 64, SUBBLOCK, dtype), maker(library, stored))
        return got[sequences[0][1] - 1]

    total = 2 * SPAN + 77
    alone = last_row([(total - 1, 1)], 1)
    for threads, sequences in (
        (3, [(total - 1, 1)]),
        (1, [(total - 1, 1), (50, 1), (9, 30)]),
        (2, [(total - 1, 1), (50, 1), (9, 30)]),
        (1, [(total - 45, 45)]),
        (3, [(total - 45, 45)]),
    ):
        assert torch.equal(last_row(sequences, threads), alone)


class SpoiltAttention(NativeCpuAttention):
    """Puts a NaN into K of head 0, in one slot of each block, before it attends."""

    def run(self, qkv: Tensor, cache: KvCache, plan: Step) -> Tensor:
        assert isinstance(cache, KvCache)
        cache.numbers[:, 0, 0].view(-1, 32, SUBBLOCK)[..., 5] = torch.nan
        return super().run(qkv, cache, plan)


def test_nan_stays_in_its_head(library: Library) -> None:
    """A NaN in K shows in what attends to it, and nowhere else."""

    def make(case: Case) -> SpoiltAttention:
        return SpoiltAttention(case.kv_heads, case.block_size, case.dtype, "auto", library)

    got = compute_step(Case([(40, 1), (10, 1)], 4, 2, 32, SUBBLOCK), make)
    assert got[:, :2].isnan().all()  # the query heads that share K/V head 0
    assert not got[:, 2:].isnan().any()


@pytest.mark.parametrize("threads", [1, 3])
def test_nan_alone_in_the_last_span(library: Library, threads: int) -> None:
    """All scores of a span are NaN, so it has no largest one: it counts none the less."""
    attention = NativeCpuAttention(1, SUBBLOCK, torch.float32, "auto", library)
    cache = attention.allocate(1, SPAN // SUBBLOCK + 1, 32)[0]
    blocks = np.arange(SPAN // SUBBLOCK + 1)[None]
    library.set_threads(threads)

    def feed(positions: range, qkv: Tensor) -> Tensor:
        where = np.array(positions)
        step = Step(
            where, where, np.array([0, len(where)]), np.array([where[-1] + 1]), blocks, SUBBLOCK
        )
        attention.write(qkv[:, 1:], cache, step)
        return attention.run(qkv, cache, step)

    feed(range(SPAN), torch.randn(SPAN, 3, 32))
    last = torch.randn(1, 3, 32)
    last[:, 1] = torch.nan  # its K
    assert feed(range(SPAN, SPAN + 1), last).isnan().all()


@pytest.mark.parametrize("bad", [torch.nan, -torch.inf])
@pytest.mark.parametrize("is_value", [False, True])
def test_bad_numbers_in_an_int8_cache(library: Library, bad: float, is_value: bool) -> None:
    """Codes cannot say so, but their scale can; subnormal numbers beside them do no harm."""
    attention = NativeCpuAttention(2, SUBBLOCK, torch.float32, "int8", library)
    cache = attention.allocate(1, 1, 32)[0]
    places = np.arange(3)
    step = Step(places, places, np.array([0, 3]), np.array([3]), np.zeros((1, 1)), SUBBLOCK)
    qkv = torch.randn(3, 6, 32)  # heads: two of queries, keys, values
    qkv[1, 4 if is_value else 2, 7] = bad
    qkv[:, 5] = 1e-42
    attention.write(qkv[:, 2:], cache, step)
    got = attention.run(qkv, cache, step)
    assert got[1:, 0].isnan().all()
    assert (got[:, 1].abs() < 1e-36).all()
