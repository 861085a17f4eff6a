"""Stands in for a GPU: kernels run in Triton's interpreter, on tensors of the CPU.

The interpreter takes about a millisecond for each program of a kernel, so keep steps small.
Work is done at once instead of queued, so what this cannot show is a race between kernels;
everything else about the GPU's runner is real.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import interpreter
import numpy as np
import torch
from torch import Tensor

from glmserve.config import RunnerConfig, report_nothing
from glmserve.contract.shard import ALL_LAYERS, Group, Stage
from glmserve.model_config import read_model_config
from glmserve.model_config.sharding import local_config
from glmserve.models.parts import part_of
from glmserve.ops.collectives import ALONE, Collectives
from glmserve.ops.gpu.select_ops import Gpu, make_ops
from glmserve.ops.uploads import QueuedUploads
from glmserve.runner.dtypes import quantization_on_load, stored_dtype
from glmserve.runner.gpu_loading import load_gpu_runner
from glmserve.runner.gpu_runner import GpuRunner
from glmserve.runner.torch_runner import TorchTarget

if os.environ.get("TRITON_INTERPRET") == "1":
    interpreter.install()

CPU = torch.device("cpu")


class WatchedMemory:
    """Page-locked memory of the emulated GPU.

    Copies are done at once here. On a GPU they are done at any time before an event behind them, so
    this fails if the host writes to memory that it has sent from before it has waited for such an
    event.
    """

    def __init__(self) -> None:
        self._parts: list[Tensor] = []
        self._seen: list[Tensor] = []
        """The contents of each part at the last event."""
        self._busy: dict[int, list[int]] = {}
        """By the number of an event that nobody has waited for: indices of the parts that were
        written before it."""
        self._events = 0

    def allocate(self, num_bytes: int) -> Tensor:
        """See HostMemory."""
        self._parts.append(torch.zeros(num_bytes, dtype=torch.uint8))
        self._seen.append(self._parts[-1].clone())
        return self._parts[-1]

    def mark(self) -> Callable[[], None]:
        """See HostMemory."""
        written = [i for i, part in enumerate(self._parts) if not torch.equal(part, self._seen[i])]
        busy = {i for parts in self._busy.values() for i in parts}
        assert busy.isdisjoint(written), "memory was overwritten that is still copied from"
        for i in written:
            self._seen[i].copy_(self._parts[i])
        self._events += 1
        event = self._events
        self._busy[event] = written
        return lambda: self._done(event)

    def _done(self, event: int) -> None:
        """The device has done everything up to this event."""
        self._busy = {other: parts for other, parts in self._busy.items() if other > event}


GPU = Gpu(
    QueuedUploads(CPU, WatchedMemory(), buffer_bytes=2**16),
    chip="sm_80",
    capability=(8, 9),
    multiprocessors=1,
)


@contextlib.contextmanager
def _uninitialised_is_nan() -> Iterator[None]:
    """Fill what torch.empty returns: so rows of padding are NaN, and must not reach others."""
    before = torch.are_deterministic_algorithms_enabled()
    torch.use_deterministic_algorithms(True, warn_only=True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before)


class RepeatedWork:
    """A graph that does the work again instead of replaying it."""

    def __init__(self, work: Callable[[], None]) -> None:
        self.replay = work


class EmulatedAccelerator:
    """Counts what the runner asks of it."""

    def __init__(self) -> None:
        self.device = CPU
        self.unread = 0
        """Results copied to the host that nobody has waited for."""
        self.graphs = 0
        """How many were recorded."""
        self.replays = 0

    def read_back(self, tensors: Sequence[Tensor]) -> Callable[[], list[Tensor]]:
        copies = [tensor.clone() for tensor in tensors]
        self.unread += 1

        def wait() -> list[Tensor]:
            self.unread -= 1
            return copies

        return wait

    def capture(self, work: Callable[[], None]) -> RepeatedWork:
        """See Accelerator. The work is not done here: to interpret it takes long."""
        self.graphs += 1

        def replay() -> None:
            self.replays += 1
            with _uninitialised_is_nan(), np.errstate(all="ignore"):
                work()

        return RepeatedWork(replay)

    def free_memory(self) -> int:
        return 2**32

    def total_memory(self) -> int:
        return 2**33


def load(
    checkpoint: Path,
    accelerator: EmulatedAccelerator | None = None,
    collectives: Collectives = ALONE,
    stage: Stage = ALL_LAYERS,
    **options: Any,
) -> GpuRunner:
    """A GpuRunner for a small checkpoint, or for a rank's part of it."""
    small = {"kv_cache_tokens": 192, "max_batch_size": 3, "max_step_tokens": 16}
    options = {"dtype": "float32", **small, **options}
    config = RunnerConfig(
        checkpoint=str(checkpoint),
        device="cuda",
        tensor_parallel_size=collectives.shard.size,
        pipeline_parallel_size=stage.size,
        group=Group(collectives.shard, "", stage),
        **options,
    )
    model = read_model_config(checkpoint, config.rope_scaling, config.ptuning_checkpoint)
    dtype = stored_dtype(config, model)
    block_size = config.block_size or 16
    quantization = quantization_on_load(config, model)
    part = part_of(config, model, dtype.itemsize, quantization)
    ops = make_ops(config, local_config(model, part), dtype, block_size, GPU)
    target = TorchTarget(CPU, "emulated", dtype, ops, quantization, collectives, part)
    return load_gpu_runner(
        config,
        model,
        target,
        accelerator or EmulatedAccelerator(),
        GPU.chip,
        block_size,
        report_nothing,
    )
