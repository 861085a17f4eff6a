"""Adds partial products in their order, so the result does not depend on which program ends
first: in the program that ends last, or in a kernel of its own."""

from __future__ import annotations

import triton
import triton.language as tl
from torch import Tensor

from glmserve_kernels.integers import ceil_div


@triton.jit
def is_last_program(arrivals_ptr, programs):
    """Whether this is the last of `programs` programs to come here. Then it sees what the others
    stored before, if it reads past the cache of its multiprocessor; and the counter, which counts
    the others, is 0 again for the next launch.

    The barrier puts the stores of all threads before the atomic addition, which releases them at
    the GPU's scope and acquires what the others released (PTX ISA, memory consistency model:
    causality order).
    """
    tl.debug_barrier()
    arrived = tl.atomic_add(arrivals_ptr, 1, sem="acq_rel", scope="gpu")
    is_last = arrived == programs - 1
    if is_last:
        tl.store(arrivals_ptr, 0)
    return is_last


@triton.jit
def add_partials(partial_at, split_stride, splits, inside):
    """partial_at[0] + partial_at[split_stride] + ..., float32, in this order; past the cache of
    the multiprocessor."""
    total = tl.zeros(inside.shape, tl.float32)
    for _ in range(splits):
        total += tl.load(partial_at, mask=inside, other=0.0, cache_modifier=".cg")
        partial_at += split_stride
    return total


@triton.jit(do_not_specialize=["num_rows"])
def _merge_splits(
    partial_ptr,
    bias_ptr,
    out_ptr,
    out_stride,
    num_rows,
    width,
    splits,
    HAS_BIAS: tl.constexpr,
    BLOCK: tl.constexpr,
):
    row = tl.program_id(0).to(tl.int64)
    columns = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    inside = columns < width
    at = partial_ptr + row * width + columns
    total = tl.zeros([BLOCK], tl.float32)
    for _ in range(splits):
        total += tl.load(at, mask=inside, other=0.0)
        at += num_rows.to(tl.int64) * width
    if HAS_BIAS:
        total += tl.load(bias_ptr + columns, mask=inside, other=0.0).to(tl.float32)
    tl.store(out_ptr + row * out_stride + columns, total.to(out_ptr.dtype.element_ty), mask=inside)


def merge_splits(partial: Tensor, bias: Tensor | None, out: Tensor) -> None:
    """out = partial[0] + partial[1] + ... + bias, added in this order in float32, rounded once.

    Args:
        partial: float32 [splits, M, N], contiguous.
        bias: [N]
        out: [M, N], written; rows contiguous.
    """
    splits, rows, width = partial.shape
    block = 512
    _merge_splits[(rows, ceil_div(width, block))](
        partial,
        out if bias is None else bias,
        out,
        out.stride(0),
        rows,
        width,
        splits,
        HAS_BIAS=bias is not None,
        BLOCK=block,
        num_warps=4,
    )
