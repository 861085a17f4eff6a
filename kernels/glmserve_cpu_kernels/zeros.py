"""Memory full of zeros that the system provides where it is first touched, and takes back."""

from __future__ import annotations

import ctypes
import math
import mmap
from collections.abc import Sequence
from functools import cache
from typing import Any

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


def release(zeros: Tensor, num_bytes: int) -> None:
    """Give whole pages of the first `num_bytes` back to the system; they read as zeros again.

    The rest of the last page keeps its contents.

    Args:
        zeros: from `untouched_zeros`.
    """
    whole = num_bytes // mmap.PAGESIZE * mmap.PAGESIZE
    if whole and _libc().madvise(zeros.data_ptr(), whole, mmap.MADV_DONTNEED):
        raise OSError(ctypes.get_errno(), "madvise")


@cache
def _libc() -> Any:
    libc = ctypes.CDLL(None, use_errno=True)
    libc.madvise.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
    return libc
