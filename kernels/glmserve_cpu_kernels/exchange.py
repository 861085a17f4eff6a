"""Numbers of several processes of one machine, exchanged through shared memory."""

from __future__ import annotations

import ctypes
import mmap
import os
from pathlib import Path

import torch
from torch import Tensor

from glmserve_cpu_kernels.library import Library


class Exchange:
    """One rank's end.

    A rank waits for the others without a limit, also for one that has died.

    Args:
        path: a file that all ranks map; the first one makes it.
        rank: of this process.
        ranks: their number.
    """

    def __init__(self, library: Library, path: Path, rank: int, ranks: int) -> None:
        self._exchange = library.functions.glm_exchange
        self._ranks = ranks
        self._rank = rank
        self._round = ctypes.c_uint32(0)
        size = library.functions.glm_exchange_bytes(ranks)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            os.ftruncate(descriptor, size)  # new bytes are zero
            self._memory = mmap.mmap(descriptor, size)
        finally:
            os.close(descriptor)
        self._shared = ctypes.c_char.from_buffer(self._memory)

    def gather(self, x: Tensor) -> list[Tensor]:
        """x of every rank, in order. All have the same shape and dtype."""
        x = x.contiguous()
        found = torch.empty((self._ranks, *x.shape), dtype=x.dtype)
        self._exchange(
            ctypes.byref(self._shared),
            self._rank,
            self._ranks,
            ctypes.byref(self._round),
            x.data_ptr(),
            x.nbytes,
            found.data_ptr(),
        )
        return list(found.unbind())
