"""A kernel with next to no work, to time what surrounds it."""

from __future__ import annotations

import triton
import triton.language as tl
from torch import Tensor


@triton.jit
def _increase(  # type: ignore[no-untyped-def]
    numbers_ptr,
    count,
    PROGRAMMATIC: tl.constexpr,  # noqa: N803
    BLOCK: tl.constexpr,  # noqa: N803
):
    if PROGRAMMATIC:
        tl.extra.cuda.gdc_wait()
        tl.extra.cuda.gdc_launch_dependents()
    at = tl.arange(0, BLOCK)
    kept = at < count
    numbers = tl.load(numbers_ptr + at, mask=kept)
    tl.store(numbers_ptr + at, numbers + 1.0, mask=kept)


def launch(numbers: Tensor, *, programmatic: bool = False) -> None:
    """Add 1 to each of at most 256 numbers.

    Args:
        programmatic: start before the kernel before it has ended, and wait for its results.
    """
    options = {"launch_pdl": True} if programmatic else {}
    _increase[(1,)](numbers, numbers.numel(), programmatic, BLOCK=256, num_warps=1, **options)
