"""What an asynchronous device adds to torch: copies that do not wait, and graphs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

import torch
from torch import Tensor


class Graph(Protocol):
    """Work recorded once, on tensors that stay where they are."""

    output: Tensor
    """What the recorded work returned; overwritten by each replay."""

    def replay(self) -> None:
        """Do it again, with what the input tensors hold now."""
        ...


class Accelerator(Protocol):
    """A device whose work is queued; nothing here waits for it, except where it says so."""

    device: torch.device

    def read_back(self, tensors: Sequence[Tensor]) -> Callable[[], list[Tensor]]:
        """Queue copies to the host. The function returned waits for them, on any thread."""
        ...

    def capture(self, work: Callable[[], Tensor]) -> Graph:
        """Do `work` once for real, then record it."""
        ...

    def free_memory(self) -> int:
        """Bytes that can still be allocated."""
        ...

    def total_memory(self) -> int:
        """Bytes of the device, free or not."""
        ...


class CudaAccelerator:
    """A GPU under torch.cuda, which is also what torch calls AMD's."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self._pool = torch.cuda.graph_pool_handle()  # graphs never overlap: they share memory

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

    def capture(self, work: Callable[[], Tensor]) -> Graph:
        stream = torch.cuda.Stream(self.device)  # type: ignore[no-untyped-call]
        stream.wait_stream(torch.cuda.current_stream(self.device))
        with torch.cuda.stream(stream):
            work()  # compiles kernels and sets up libraries, which must not happen while recording
        torch.cuda.current_stream(self.device).wait_stream(stream)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, pool=self._pool):
            output = work()
        return _CudaGraph(graph, output)

    def free_memory(self) -> int:
        torch.cuda.empty_cache()
        return torch.cuda.mem_get_info(self.device)[0]

    def total_memory(self) -> int:
        return torch.cuda.mem_get_info(self.device)[1]


class _CudaGraph:
    def __init__(self, graph: torch.cuda.CUDAGraph, output: Tensor) -> None:
        self.output = output
        self._graph = graph

    def replay(self) -> None:
        self._graph.replay()
