"""The triton backend's plans: whole steps through the kernels, and through static arrays."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from glmserve.contract.step import ScheduledSequence, StepInput
from glmserve.ops.attention.backend import AnyAttentionBackend
from glmserve.ops.attention.batch_invariant_paged import BatchInvariantPagedAttention
from glmserve.ops.attention.paged import PagedAttention
from glmserve.ops.attention.paged_cache import PagedGeometry
from glmserve.ops.packed_arrays import StaticArrays, packed_bytes
from glmserve.ops.step_shape import StepShape, shape_of
from glmserve.runner.batch import build_batch
from glmserve.runner.graph_shapes import graph_shapes, smallest_that_fits
from support.attention_steps import Case, run_step
from support.emulated_gpu import GPU


def make(case: Case) -> PagedAttention:
    return PagedAttention(geometry(case))


def make_batch_invariant(case: Case) -> BatchInvariantPagedAttention:
    return BatchInvariantPagedAttention(geometry(case))


def geometry(case: Case) -> PagedGeometry:
    return PagedGeometry(
        num_heads=case.heads,
        num_kv_heads=case.kv_heads,
        head_dim=case.dim,
        cache_dtype=case.dtype,
        uploads=GPU.uploads,
        chip=GPU.chip,
        multiprocessors=2,
        block_size=case.block_size,
    )


@pytest.mark.parametrize(
    "sequences",
    [
        [(9, 1)],
        [(0, 17)],
        [(1, 1), (40, 1), (0, 1)],
        [(5, 9), (40, 1), (0, 3), (2, 1), (16, 2)],
    ],
)
@pytest.mark.parametrize(("heads", "kv_heads"), [(4, 2), (3, 3)])
@pytest.mark.parametrize("make", [make, make_batch_invariant])
def test_whole_steps(
    sequences: list[tuple[int, int]],
    heads: int,
    kv_heads: int,
    make: Callable[[Case], AnyAttentionBackend],
) -> None:
    case = Case(sequences, heads, kv_heads, dim=16, block_size=16)
    got, want = run_step(case, make)
    torch.testing.assert_close(got.double(), want, rtol=0, atol=1e-5)


def test_a_static_plan_is_the_plan_of_the_same_step() -> None:
    attention = make(Case([], dim=16, block_size=16))
    shape = StepShape(tokens=4, decodes=4, prompts=0, sequences=4, outputs=4, context=64)
    specs = attention.static_specs(shape)
    buffer = torch.empty(packed_bytes(specs), dtype=torch.uint8)
    arrays = StaticArrays(specs, GPU.uploads, buffer)
    longer = [ScheduledSequence(i, [0], 60 - i, _table(i), None) for i in range(4)]
    step = [ScheduledSequence(i, [0], start, _table(i), None) for i, start in enumerate([33, 2])]
    for sequences in (longer, step):
        batch = build_batch(StepInput(0, sequences), 16)
        attention.fill_static(batch, arrays.host)
    arrays.upload()
    scratch = torch.empty(attention.scratch_size(shape))
    static = attention.static_plan(arrays.device, torch.zeros(4), scratch)
    plan = attention.plan(batch, None)
    assert static.decode is not None
    assert plan.decode is not None
    assert static.slots.tolist() == [*plan.slots.tolist(), -1, -1]
    used = int(plan.decode.item_start[-1])
    assert static.decode.item_start.tolist() == [*plan.decode.item_start.tolist(), used, used]
    assert torch.equal(static.decode.items[:used], plan.decode.items[:used])
    assert (static.decode.items[used:] == -1).all()
    width = plan.block_tables.shape[1]
    assert torch.equal(static.block_tables[:2, :width], plan.block_tables)


@given(
    st.lists(st.integers(1, 40), min_size=1, max_size=12),
    st.integers(0, 2000),
    st.sampled_from([make, make_batch_invariant]),
)
def test_every_step_fits_the_graph_that_is_chosen_for_it(
    counts: list[int], start: int, make: Callable[[Case], PagedAttention]
) -> None:
    """And its plan there is its own, with padding behind it."""
    attention = make(Case([], dim=16, block_size=16))
    blocks = np.zeros(-(-(start + 40) // 16), dtype=np.int32).tobytes()
    sequences = [ScheduledSequence(i, [0] * n, start, blocks, None) for i, n in enumerate(counts)]
    batch = build_batch(StepInput(0, sequences), 16)
    mixed = [s for s in graph_shapes(12, 512, 4096) if s.prompts]
    shape = smallest_that_fits(mixed[::-1], sum(counts))
    assert shape is not None
    padded, own = (
        {name: np.full(spec.shape, 7, spec.dtype) for name, spec in specs.items()}
        for specs in (attention.static_specs(shape), attention.static_specs(shape_of(batch)))
    )
    for host in (padded, own):
        attention.fill_static(batch, host)
    for name in own.keys() & {"slots", "tiles"}:
        assert (_used(padded[name]) == _used(own[name])).all()
    if "items" in own:  # they may be cut otherwise
        lengths = [np.diff(_used(host["items"])[:, -2:]).sum() for host in (padded, own)]
        assert lengths[0] == lengths[1]


def _used(rows: NDArray[np.int32]) -> NDArray[np.int32]:
    """Those that are no padding, which is behind them."""
    flat = rows.reshape(len(rows), -1)
    count = int((flat[:, 0] >= 0).sum())
    assert (flat[:count, 0] >= 0).all()
    assert (flat[count:] == -1).all()
    return flat[:count]


def _table(i: int) -> bytes:
    return np.arange(4 * i, 4 * i + 4, dtype=np.int32).tobytes()
