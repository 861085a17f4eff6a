"""Asynchronous copies and graphs of a device with queued work."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

import torch
from torch import Tensor


class Graph(Protocol):
    """Recorded work on tensors with fixed addresses."""

    def replay(self) -> None:
        """Queue the work again, with the present contents of the input tensors."""
        ...


class Accelerator(Protocol):
    """A device with queued work. Methods do not wait for it unless they say so."""

    device: torch.device

    def read_back(self, tensors: Sequence[Tensor]) -> Callable[[], list[Tensor]]:
        """Queue copies to the host.

        Returns:
            A function that waits for them, on any thread.
        """
        ...

    def capture(self, work: Callable[[], None]) -> Graph:
        """Call `work` once, then record it. What it leaves behind is in tensors that were there
        before: what it allocates is the memory of all graphs, and each replay overwrites it."""
        ...

    def free_memory(self) -> int:
        """Bytes that can still be allocated."""
        ...

    def total_memory(self) -> int:
        """Bytes of the device, free or not."""
        ...


class CudaAccelerator:
    """A GPU under torch.cuda, which stands for AMD's GPUs as well."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self._pool = torch.cuda.graph_pool_handle()  # graphs never overlap: they share memory
        # One stream for all graphs: cuBLAS has a workspace for each stream that it is used on, 32
        # MiB on an H100.
        self._stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]

    def read_back(self, tensors: Sequence[Tensor]) -> Callable[[], list[Tensor]]:
        copies = [torch.empty(t.shape, dtype=t.dtype, pin_memory=True) for t in tensors]
        for copy, tensor in zip(copies, tensors, strict=True):
            copy.copy_(tensor, non_blocking=True)
        done = torch.cuda.Event()  # type: ignore[no-untyped-call]
        done.record()

        def wait() -> list[Tensor]:
            done.synchronize()
            return copies

        return wait

    def capture(self, work: Callable[[], None]) -> Graph:
        self._stream.wait_stream(torch.cuda.current_stream(self.device))
        with torch.cuda.stream(self._stream):
            work()  # compiles kernels and sets up libraries, which must not happen while recording
        torch.cuda.current_stream(self.device).wait_stream(self._stream)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, pool=self._pool, stream=self._stream):
            work()
        return graph

    def free_memory(self) -> int:
        torch.cuda.empty_cache()
        return torch.cuda.mem_get_info(self.device)[0]

    def total_memory(self) -> int:
        return torch.cuda.mem_get_info(self.device)[1]
