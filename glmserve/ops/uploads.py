"""Copies of arrays from the host to a device, which do not wait for the device.

A copy from page-locked memory runs behind the work that is queued already, so its source must stay
as it is until then. So each step writes what it sends to a buffer of its own, and a buffer is used
again only when an event says that its step is done. From other memory a driver may wait for the
device, or take a copy of its own first; NVIDIA promises neither
(https://docs.nvidia.com/cuda/cuda-runtime-api/api-sync-behavior.html).
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

_ALIGNMENT = 16
"""Bytes."""
_BUFFER_BYTES = 4 * 2**20
"""More than a step sends usually: the block tables of 256 sequences of 32k tokens and the token
masks of 64 rows take 1 MiB."""
_STEPS = 3
"""Buffers: for the step that runs, for the one that is queued behind it, and for the next one."""


class Uploads(Protocol):
    """Copies to one device. Not for several threads at the same time."""

    device: torch.device

    def send(self, array: NDArray[Any]) -> Tensor:
        """Queue a copy of `array` to new memory. The array is not to be overwritten later: the
        tensor may share its memory."""
        ...

    def copy(self, source: NDArray[Any], target: Tensor) -> None:
        """Queue a copy of bytes, uint8 [n] both. `source` may be overwritten at once."""
        ...

    def next_step(self) -> None:
        """Begin a step: what was sent before belongs to earlier ones."""
        ...


class DirectUploads:
    """For devices without a queue: the copies of torch, which are done when they return."""

    def __init__(self, device: torch.device) -> None:
        self.device = device

    def send(self, array: NDArray[Any]) -> Tensor:
        """See Uploads. On a CPU the tensor is the array itself."""
        return torch.from_numpy(array).to(self.device)

    def copy(self, source: NDArray[Any], target: Tensor) -> None:
        """See Uploads."""
        target.copy_(torch.from_numpy(source))

    def next_step(self) -> None:
        """See Uploads."""


class HostMemory(Protocol):
    """Memory of the host that the device copies from while the host does something else."""

    def allocate(self, num_bytes: int) -> Tensor:
        """uint8 [num_bytes], page-locked."""
        ...

    def mark(self) -> Callable[[], None]:
        """Record an event behind the work that is queued now.

        Returns:
            A function that waits for it.
        """
        ...


class CudaHostMemory:
    """Page-locked memory and events of torch.cuda, on the current stream."""

    def allocate(self, num_bytes: int) -> Tensor:
        """See HostMemory."""
        return torch.empty(num_bytes, dtype=torch.uint8, pin_memory=True)

    def mark(self) -> Callable[[], None]:
        """See HostMemory."""
        event = torch.cuda.Event()  # type: ignore[no-untyped-call]
        event.record()
        wait: Callable[[], None] = event.synchronize
        return wait


class _StepBuffer:
    """What one step sends."""

    def __init__(self, memory: HostMemory, least: int) -> None:
        self._memory = memory
        self._least = least
        self._parts: list[Tensor] = []
        self._last: NDArray[np.uint8] = np.empty(0, dtype=np.uint8)  # the last part
        self._size = 0  # of it
        self._used = 0  # of it
        self.wait: Callable[[], None] = _nothing
        """Waits until the device has read all of it."""

    def add(self, source: NDArray[np.uint8]) -> Tensor:
        """A copy of `source`, uint8 [n], where nothing else of this step is."""
        first, end = self._used, self._used + len(source)
        if not self._parts or end > self._size:
            self._allocate(max(len(source), self._least))
            first, end = 0, len(source)
        self._last[first:end] = source
        self._used = -(-end // _ALIGNMENT) * _ALIGNMENT
        return self._parts[-1][first:end]

    def clear(self) -> None:
        """Wait, and begin anew. A step that needed several parts leaves one of their size."""
        self.wait()
        self.wait = _nothing
        if len(self._parts) > 1:
            size = sum(map(len, self._parts))
            self._parts.clear()
            self._allocate(size)
        self._used = 0

    def _allocate(self, num_bytes: int) -> None:
        part = self._memory.allocate(num_bytes)
        self._parts.append(part)
        self._last, self._size = part.numpy(), num_bytes


class QueuedUploads:
    """For devices with queued work: copies from a ring of page-locked buffers, one per step.

    Args:
        buffer_bytes: of a step's buffer, unless the step sends more.
    """

    def __init__(
        self, device: torch.device, memory: HostMemory, buffer_bytes: int = _BUFFER_BYTES
    ) -> None:
        self.device = device
        self._memory = memory
        self._buffers = [_StepBuffer(memory, buffer_bytes) for _ in range(_STEPS)]
        self._turn = 0

    def send(self, array: NDArray[Any]) -> Tensor:
        """See Uploads."""
        flat = np.ascontiguousarray(array).reshape(-1)
        staged = self._buffers[self._turn].add(flat.view(np.uint8))
        target = torch.empty(staged.shape, dtype=torch.uint8, device=self.device)
        target.copy_(staged, non_blocking=True)
        return target.view(torch_dtype(array.dtype)).view(array.shape)

    def copy(self, source: NDArray[Any], target: Tensor) -> None:
        """See Uploads."""
        target.copy_(self._buffers[self._turn].add(source), non_blocking=True)

    def next_step(self) -> None:
        """See Uploads. Waits while as many steps are queued as there are buffers."""
        self._buffers[self._turn].wait = self._memory.mark()
        self._turn = (self._turn + 1) % len(self._buffers)
        self._buffers[self._turn].clear()


def make_uploads(device: torch.device) -> Uploads:
    """The uploads to a device of torch."""
    if device.type == "cuda":
        return QueuedUploads(device, CudaHostMemory())
    return DirectUploads(device)


@functools.cache
def torch_dtype(dtype: np.dtype[Any]) -> torch.dtype:
    """The dtype of torch for one of numpy."""
    return torch.from_numpy(np.empty(0, dtype=dtype)).dtype


def _nothing() -> None:
    """There is nothing to wait for."""
