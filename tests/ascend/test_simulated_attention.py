"""The vendor's attention over its paged cache, simulated, against plain attention."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from glmserve.ops.attention.npu import AtbAttention, IncreAttention, NpuAttention
from glmserve.ops.attention.npu_cache import NpuGeometry
from glmserve.ops.attention.npu_int8 import NpuInt8Attention
from support.ascend_simulator.library import register
from support.attention_steps import Case, run_step

BACKENDS = {
    "npu": NpuAttention,
    "incre": IncreAttention,
    "atb": AtbAttention,
    "int8": NpuInt8Attention,
}


def check(case: Case, backend: str, seed: int = 0) -> None:
    def make(case: Case) -> NpuAttention | NpuInt8Attention:
        register()
        device = torch.device("cpu")
        return BACKENDS[backend](
            NpuGeometry(case.heads, case.kv_heads, case.dim, case.dtype, device, case.block_size)
        )

    got, want = run_step(case, make, seed)
    if backend == "int8":
        assert float((got - want).norm() / want.norm()) < 0.03
    else:
        tolerance = 1e-5 if case.dtype == torch.float32 else 3e-2
        torch.testing.assert_close(got.double(), want, rtol=0, atol=tolerance)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize(("heads", "kv_heads"), [(4, 2), (4, 4), (6, 1)])
@pytest.mark.parametrize(
    "sequences",
    [
        [(0, 1)],
        [(200, 1), (127, 1), (128, 1)],
        [(0, 9)],
        [(125, 9)],
        [(5, 9), (140, 1), (0, 3), (2, 1), (128, 130)],
    ],
)
def test_steps(
    backend: str, dtype: torch.dtype, heads: int, kv_heads: int, sequences: list[tuple[int, int]]
) -> None:
    check(Case(sequences, heads, kv_heads, dim=32, block_size=128, dtype=dtype), backend)


@given(
    sequences=st.lists(
        st.tuples(st.integers(0, 300), st.sampled_from([1, 1, 1, 2, 5, 17, 129])),
        min_size=1,
        max_size=6,
    ),
    dim=st.sampled_from([32, 64]),
    block_size=st.sampled_from([128, 256]),
    backend=st.sampled_from(sorted(BACKENDS)),
    seed=st.integers(0, 1000),
)
@settings(max_examples=30)
def test_any_step(
    sequences: list[tuple[int, int]], dim: int, block_size: int, backend: str, seed: int
) -> None:
    check(Case(sequences, dim=dim, block_size=block_size), backend, seed)
