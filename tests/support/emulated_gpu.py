"""Stands in for a GPU: kernels run in Triton's interpreter, on tensors of the CPU.

The interpreter takes about a millisecond for each program of a kernel, so keep steps small.
Work is done at once instead of queued, so what this cannot show is a race; everything else about
the GPU's runner is real.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import interpreter
import torch
from torch import Tensor

from glmserve.config import RunnerConfig, report_nothing
from glmserve.contract.shard import ALL_LAYERS, Group, Stage
from glmserve.model_config import read_model_config
from glmserve.model_config.sharding import local_config
from glmserve.models.parts import part_of
from glmserve.ops.collectives import ALONE, Collectives
from glmserve.ops.gpu.select_ops import Gpu, make_ops
from glmserve.runner.dtypes import quantization_on_load, stored_dtype
from glmserve.runner.gpu_loading import load_gpu_runner
from glmserve.runner.gpu_runner import GpuRunner
from glmserve.runner.torch_runner import TorchTarget

if os.environ.get("TRITON_INTERPRET") == "1":
    interpreter.install()

CPU = torch.device("cpu")
GPU = Gpu(CPU, chip="sm_80", capability=(8, 9), multiprocessors=1)


class ReplayedWork:
    """A graph that does the work again instead of replaying it."""

    def __init__(self, work: Callable[[], Tensor]) -> None:
        self.output = work()
        self._work = work

    def replay(self) -> None:
        self.output.copy_(self._work())


class EmulatedAccelerator:
    """Counts what the runner asks of it."""

    def __init__(self) -> None:
        self.device = CPU
        self.unread = 0
        """Results copied to the host that nobody has waited for."""
        self.graphs: list[ReplayedWork] = []

    def read_back(self, tensors: Sequence[Tensor]) -> Callable[[], list[Tensor]]:
        copies = [tensor.clone() for tensor in tensors]
        self.unread += 1

        def wait() -> list[Tensor]:
            self.unread -= 1
            return copies

        return wait

    def capture(self, work: Callable[[], Tensor]) -> ReplayedWork:
        self.graphs.append(ReplayedWork(work))
        return self.graphs[-1]

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
