"""Huawei's Ascend NPUs, through torch_npu."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import torch

from glmserve.config import ReportProgress, RunnerConfig
from glmserve.devices.base import DeviceInfo, place_of
from glmserve.devices.npu_environment import (
    BINDING,
    binds_cpus,
    prepare_process,
    settings,
    visible_npu,
)
from glmserve.devices.npu_topology import NumaNode, keep_near, node_of
from glmserve.devices.torch_npu import NpuDriver, TorchNpu
from glmserve.errors import DeviceError, OptionError
from glmserve.model_config import ModelConfig, read_model_config
from glmserve.model_config.sharding import local_config
from glmserve.models.parameters import count_parameters
from glmserve.models.parts import part_of
from glmserve.ops.ascend.chip import Chip, chip_named
from glmserve.ops.ascend.select_ops import make_ascend_ops
from glmserve.ops.attention.npu_cache import BLOCK_SIZE
from glmserve.ops.collectives import Collectives
from glmserve.ops.torch_collectives import join_by
from glmserve.runner.dtypes import DTYPES, dtype_name, quantization_on_load, stored_dtype
from glmserve.runner.gpu_memory import gpu_memory_budget, gpu_memory_needs, refuse_unfree_budget
from glmserve.runner.limits import MemoryNeeds, agreed
from glmserve.runner.torch_runner import TorchRunner, TorchTarget, load_torch_runner

_MAX_DRAFTS = 64
"""Drafts of one request; a step computes them like a short prompt."""


class AscendDevice:
    """The first visible NPU, or one for each rank.

    Args:
        driver: opens the NPU.
        chip_named: what the chip of a name computes.
    """

    name = "ascend"
    serves_adapters = True

    def __init__(
        self,
        driver: NpuDriver | None = None,
        chip_named: Callable[[str], Chip] = chip_named,
    ) -> None:
        self._driver = driver or TorchNpu()
        self._chip_named = chip_named

    def probe(self) -> DeviceInfo:
        reason = self._driver.why_unusable()
        return DeviceInfo(reason is None, reason or self._driver.describe())

    def settings(self, config: RunnerConfig) -> dict[str, str]:
        """See ConfigurableDevice."""
        found = settings(config.npu)
        if binds_cpus(config.npu):
            node = node_of(visible_npu(config.npu, _place(config)))
            found[BINDING] = "1: " + (_describe(node) if node else "the NPU's node is not known")
        return found

    def places(self) -> int:
        """See ParallelDevice."""
        return self._driver.count()

    def join(self, config: RunnerConfig) -> Collectives:
        """See ParallelDevice. The NPU is open."""
        return join_by(self._driver.collectives, config.group, self._driver.device)

    def memory_needs(self, config: RunnerConfig, model: ModelConfig) -> MemoryNeeds:
        target = self._target(config, model, self._open(config))
        return self._memory_needs(config, model, target)

    def create_runner(
        self, config: RunnerConfig, progress: ReportProgress
    ) -> TorchRunner[Any, Any]:
        model = read_model_config(
            Path(config.checkpoint), config.rope_scaling, config.ptuning_checkpoint
        )
        npu = visible_npu(config.npu, _place(config))
        # Before torch_npu starts threads.
        node = keep_near(npu) if binds_cpus(config.npu) else None
        target = self._target(config, model, self._open(config), node)
        needs = self._memory_needs(config, model, target)
        target = replace(target, collectives=self.join(config))
        own = local_config(model, target.part)
        limits = msgspec.structs.replace(
            agreed(needs.plan(config, own), target.collectives.smallest),
            max_drafts=_MAX_DRAFTS,
            steps_in_flight=config.pipeline_parallel_size,
        )
        try:
            return load_torch_runner(config, model, target, limits, progress)
        except torch.OutOfMemoryError as error:
            raise DeviceError(
                "not enough NPU memory for weights and KV cache; lower --kv-cache-memory or "
                f"--max-step-tokens ({error})"
            ) from None

    def _open(self, config: RunnerConfig) -> Chip:
        count, wanted = self._driver.count(), place_of(config).size
        if wanted > count:
            here = f", {wanted} of them here" if wanted < config.num_ranks else ""
            raise OptionError(
                f"--tensor-parallel-size {config.tensor_parallel_size} and "
                f"--pipeline-parallel-size {config.pipeline_parallel_size}: each of "
                f"{config.num_ranks} ranks needs an NPU{here}, and this machine has {count}"
            )
        prepare_process(config.npu)
        return self._chip_named(self._driver.open(_place(config)))

    def _memory_needs(
        self, config: RunnerConfig, model: ModelConfig, target: TorchTarget
    ) -> MemoryNeeds:
        free, total = self._driver.memory()
        refuse_unfree_budget(config, free, total)
        available = min(free, gpu_memory_budget(config, total))
        own = local_config(model, target.part)
        needs = gpu_memory_needs(config, own, target, _block_size(config), available)
        return replace(needs, num_parameters=count_parameters(model))

    def _target(
        self, config: RunnerConfig, model: ModelConfig, chip: Chip, node: NumaNode | None = None
    ) -> TorchTarget:
        """How a model is computed on this NPU.

        Raises:
            OptionError: an option is not supported on this NPU.
        """
        dtype = _dtype(config, model, chip)
        device = self._driver.device
        place = f", {_describe(node)}" if node else ""
        quantization = quantization_on_load(config, model)
        part = part_of(config, model, dtype.itemsize, quantization)
        own = local_config(model, part)
        return TorchTarget(
            device=device,
            description=f"{self.name} ({chip.name}{place})",
            dtype=dtype,
            ops=make_ascend_ops(config, own, dtype, _block_size(config), device, chip),
            quantization=quantization,
            part=part,
        )


def _place(config: RunnerConfig) -> int:
    """Which of the visible NPUs is this process's."""
    return 0 if config.group is None else config.group.local.rank


def _block_size(config: RunnerConfig) -> int:
    return config.block_size or BLOCK_SIZE


def _dtype(config: RunnerConfig, model: ModelConfig, chip: Chip) -> torch.dtype:
    """The dtype of activations; `auto` is that of config.json, or a half that the chip has.

    Raises:
        OptionError: the chip does not compute in the given one.
    """
    dtype = stored_dtype(config, model)
    if dtype in chip.dtypes:
        return dtype
    if config.dtype != "auto":
        names = [name for name, known in DTYPES.items() if known in chip.dtypes]
        raise OptionError(
            f"--dtype {dtype_name(dtype)}: {chip.name} computes in {' and '.join(names)}; leave "
            "the option out"
        )
    return torch.bfloat16 if torch.bfloat16 in chip.dtypes else torch.float16


def _describe(node: NumaNode) -> str:
    return f"NUMA node {node.number}, {len(node.cpus)} CPUs"
