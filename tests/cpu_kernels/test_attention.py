"""Paged attention of the compiled CPU kernels."""

from __future__ import annotations

import pytest
import torch

from attention_steps import Case, run_step
from glmserve.config import KvCacheDType
from glmserve.ops.native_cpu import NativeCpuAttention
from glmserve_cpu_kernels.library import Library

BLOCK = 32
SPAN = 512
"""Tokens that have a softmax of their own."""


def check(library: Library, case: Case, stored: KvCacheDType = "auto", seed: int = 0) -> None:
    def make(case: Case) -> NativeCpuAttention:
        return NativeCpuAttention(case.kv_heads, case.block_size, case.dtype, stored, library)

    got, want = run_step(case, make, seed)
    if stored == "int8":
        assert float((got - want).norm() / want.norm()) < 0.03
    else:
        tolerance = 1e-5 if case.dtype == torch.float32 else 3e-2
        torch.testing.assert_close(got.double(), want, rtol=0, atol=tolerance)


@pytest.mark.parametrize("stored", ["auto", "int8"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(("heads", "kv_heads"), [(4, 2), (4, 4), (26, 2), (9, 3), (1, 1)])
@pytest.mark.parametrize(
    "sequences",
    [
        [(0, 1)],
        [(BLOCK - 1, 1)],
        [(BLOCK, 1), (7, 1), (7, 1)],
        [(0, 9)],
        [(5, 30)],
        [(5, 9), (40, 1), (0, 3), (2, 1), (63, 2)],
    ],
)
def test_head_groups(
    library: Library,
    stored: KvCacheDType,
    dtype: torch.dtype,
    heads: int,
    kv_heads: int,
    sequences: list[tuple[int, int]],
) -> None:
    check(library, Case(sequences, heads, kv_heads, block_size=BLOCK, dtype=dtype), stored)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("dim", [32, 36, 64, 128, 256])
@pytest.mark.parametrize("page", [BLOCK, 2 * BLOCK])
def test_dims_and_pages(library: Library, dtype: torch.dtype, dim: int, page: int) -> None:
    case = Case([(0, 40), (99, 1), (3, 2)], 6, 2, dim, page, dtype)
    check(library, case)


@pytest.mark.parametrize("before", [SPAN - 1, SPAN, 2 * SPAN + 40])
@pytest.mark.parametrize("new", [1, 3, 50])
def test_spans(library: Library, before: int, new: int) -> None:
    check(library, Case([(before, new), (3, 1)], 4, 2, 32, BLOCK))


@pytest.mark.parametrize("stored", ["auto", "int8"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_bits_do_not_depend_on_the_step(
    library: Library, stored: KvCacheDType, dtype: torch.dtype
) -> None:
    """One token alone, with one thread or several, in a chunk, and beside others."""

    def last_row(sequences: list[tuple[int, int]], threads: int) -> torch.Tensor:
        def make(case: Case) -> NativeCpuAttention:
            return NativeCpuAttention(case.kv_heads, case.block_size, case.dtype, stored, library)

        library.set_threads(threads)
        first = sequences[0]
        got, _ = run_step(Case(sequences, 6, 2, 64, BLOCK, dtype), make)
        return got[first[1] - 1]

    total = 2 * SPAN + 77
    alone = last_row([(total - 1, 1)], 1)
    for threads in (1, 2, 3):
        assert torch.equal(last_row([(total - 1, 1)], threads), alone)
        assert torch.equal(last_row([(total - 1, 1), (50, 1), (9, 30)], threads), alone)
        assert torch.equal(last_row([(total - 45, 45)], threads), alone)


def test_nan_stays_in_its_sequence(library: Library) -> None:
    """A NaN in K shows in what attends to it, and nowhere else."""
    make_case = Case([(40, 1), (10, 1)], 4, 2, 32, BLOCK)
    backends: list[NativeCpuAttention] = []

    def make(case: Case) -> NativeCpuAttention:
        backends.append(
            NativeCpuAttention(case.kv_heads, case.block_size, case.dtype, "auto", library)
        )
        return backends[0]

    original = NativeCpuAttention.run

    def with_nan(self: NativeCpuAttention, qkv, cache, plan):  # type: ignore[no-untyped-def]
        cache.numbers[:, 0, 0].view(-1, 32, BLOCK)[..., 5] = torch.nan  # K of a slot, in each block
        return original(self, qkv, cache, plan)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(NativeCpuAttention, "run", with_nan)
        got, _ = run_step(make_case, make)
    assert got[:, :2].isnan().all()  # the query heads that share K/V head 0
    assert not got[:, 2:].isnan().any()
