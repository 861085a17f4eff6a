"""Memory full of zeros that the system provides where it is first touched."""

from __future__ import annotations

import math
import mmap
from collections.abc import Sequence

import torch
from torch import Tensor


def untouched_zeros(shape: Sequence[int], dtype: torch.dtype) -> Tensor:
    """A tensor like torch.zeros, which would write all of it at once.

    Raises:
        MemoryError: the system refuses so much.
    """
    num_bytes = math.prod(shape) * dtype.itemsize
    if not num_bytes:
        return torch.zeros(tuple(shape), dtype=dtype)
    try:
        memory = mmap.mmap(-1, num_bytes, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    except (OSError, OverflowError):
        raise MemoryError(f"cannot allocate memory: {num_bytes} bytes") from None
    return torch.frombuffer(memory, dtype=dtype).view(tuple(shape))
