"""Adds partial products in the program that ends last, in their order, so the result does not
depend on which program that is."""

from __future__ import annotations

import triton
import triton.language as tl


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
