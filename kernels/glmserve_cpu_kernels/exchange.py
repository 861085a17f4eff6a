"""Numbers of several processes of one machine, exchanged through shared memory.

A process waits for the others without a limit, also for one that has died.
"""

from __future__ import annotations

import ctypes
import mmap
import os
from pathlib import Path

import torch
from torch import Tensor

from glmserve_cpu_kernels.library import Library


class Exchange:
    """One rank's end of an exchange between all ranks.

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
        self._shared = _map(path, library.functions.glm_exchange_bytes(ranks))

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


class Channel:
    """Either end of a channel from one process to another.

    Args:
        path: a file that both map; the first one makes it.
    """

    def __init__(self, library: Library, path: Path) -> None:
        self._functions = library.functions
        self._shared = _map(path, library.functions.glm_channel_bytes())

    def send(self, x: Tensor) -> None:
        """Send numbers. It waits only if the receiver is megabytes behind."""
        x = x.contiguous()
        self._functions.glm_channel_send(ctypes.byref(self._shared), x.data_ptr(), x.nbytes)

    def receive(self, x: Tensor) -> Tensor:
        """Write the next numbers that were sent to x, contiguous, of their shape and dtype."""
        self._functions.glm_channel_receive(ctypes.byref(self._shared), x.data_ptr(), x.nbytes)
        return x


def _map(path: Path, size: int) -> ctypes.c_char:
    """Map a file of zeros into memory; other processes see what is written there."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        os.ftruncate(descriptor, size)  # new bytes are zero
        return ctypes.c_char.from_buffer(mmap.mmap(descriptor, size))
    finally:
        os.close(descriptor)
