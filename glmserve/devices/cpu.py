"""The CPU: our own kernels if they were compiled, else torch with packed linear weights."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import torch

from glmserve.config import Quantization, ReportProgress, RunnerConfig
from glmserve.devices.base import DeviceInfo, place_of
from glmserve.devices.host import (
    available_memory,
    large_blocks_apart,
)
from glmserve.devices.rank_cpus import RankCpus, keep_to_part
from glmserve.errors import OptionError
from glmserve.model_config import ModelConfig, read_model_config
from glmserve.model_config.sharding import Part, local_config
from glmserve.models.parameters import count_parameters, weight_bytes
from glmserve.models.parts import part_of
from glmserve.ops.attention.backend import ReleasingBackend
from glmserve.ops.collectives import ALONE, Collectives
from glmserve.ops.cpu.select_ops import (
    NativeKernels,
    default_block_size,
    kernels_for,
    make_cpu_ops,
    native_kernels,
)
from glmserve.ops.cpu.torch_ops import AnyCpuOps
from glmserve.ops.shared_collectives import SharedMemory
from glmserve.ops.torch_collectives import join_by_gloo
from glmserve.process.cpus import cpu_name, instruction_sets, usable_cores
from glmserve.process.numa import usable_nodes
from glmserve.runner.adapters import room_bytes
from glmserve.runner.dtypes import dtype_name, host_dtype, quantization_on_load
from glmserve.runner.limits import CacheMemory, MemoryNeeds, agreed, step_bytes, step_tokens
from glmserve.runner.most_likely_tokens import MostLikelyTokens
from glmserve.runner.taped_forward import TapedForward
from glmserve.runner.torch_runner import TorchRunner, TorchTarget, load_torch_runner

_CACHE_SHARE = 0.25
"""Part of the memory beside the weights: other processes need memory too."""

_STEP_TOKENS = 512
"""Prompts of 2000 tokens are computed 1.1x as fast in one step, but that step delays the next
tokens of running requests four times as long."""
_MAX_DRAFTS = 64
"""Drafts of one request take hardly any time. With 16 requests a draft takes 3/4 of the time of a
token (12 layers, hidden size 768), so four right drafts each make decoding at most 1.4x as fast."""
_HOST = torch.device("cpu")

_TINY_MODEL = 2**25
"""Bytes of weights below which a second thread costs more time than it saves."""


class CpuDevice:
    """The CPU of this machine; always available."""

    name = "cpu"
    serves_adapters = True

    def probe(self) -> DeviceInfo:
        return DeviceInfo(True, f"{cpu_name()}, {usable_cores()} cores")

    def memory_needs(self, config: RunnerConfig, model: ModelConfig) -> MemoryNeeds:
        return _memory_needs(config, model, _choose(config, model))

    def places(self) -> int:
        """See ParallelDevice."""
        return max(1, usable_nodes())

    def join(self, config: RunnerConfig) -> Collectives:
        """See ParallelDevice."""
        library = native_kernels(config).library
        if config.group is None:
            return ALONE
        if library is None or config.group.meets_at is not None:
            return join_by_gloo(config.group)
        return SharedMemory(config.group, library)

    def create_runner(
        self, config: RunnerConfig, progress: ReportProgress
    ) -> TorchRunner[Any, Any]:
        model = read_model_config(
            Path(config.checkpoint), config.rope_scaling, config.ptuning_checkpoint
        )
        cpus = None if config.group is None else keep_to_part(config.group.local)
        choice = _choose(config, model)
        needs = _memory_needs(config, model, choice)
        collectives = self.join(config)
        limits = agreed(needs.plan(config, choice.own), collectives.smallest)
        limits = msgspec.structs.replace(
            limits,
            max_drafts=_MAX_DRAFTS,
            steps_in_flight=config.pipeline_parallel_size,
            releases_cache=isinstance(choice.ops.attention, ReleasingBackend),
        )
        library = choice.native.library
        threads = config.threads or default_threads(
            usable_cores(), needs.weights, alone=config.cpus is not None or cpus is not None
        )
        torch.set_num_threads(threads)
        if library:
            library.set_threads(threads)
        target = TorchTarget(
            device=_HOST,
            description=_description(threads, choice.native, cpus),
            dtype=choice.dtype,
            ops=choice.ops,
            quantization=choice.quantization,
            collectives=collectives,
            part=choice.part,
            ordered=config.deterministic,
            forward_of=TapedForward.of,
            greedy_of=MostLikelyTokens.of,
        )
        with nullcontext() if config.group is None else large_blocks_apart():
            return load_torch_runner(config, model, target, limits, progress)


class _Choice(NamedTuple):
    """How a model is computed on this CPU."""

    part: Part
    """This rank's."""
    own: ModelConfig
    """Of this part."""
    dtype: torch.dtype
    quantization: Quantization | None
    block_size: int
    native: NativeKernels
    ops: AnyCpuOps


def _choose(config: RunnerConfig, model: ModelConfig) -> _Choice:
    """By the options, else the fastest available way.

    Args:
        model: the whole one.

    Raises:
        OptionError: an option is not supported on this CPU, or the model cannot be cut so.
    """
    if config.gpu_memory_utilization is not None:
        raise OptionError(
            "--gpu-memory-utilization is for GPUs; on a CPU, --kv-cache-memory sets the KV cache"
        )
    native = native_kernels(config)
    fast_bfloat16 = native.library is not None or _computes_bfloat16()
    dtype = host_dtype(config, model, fast_bfloat16=fast_bfloat16)
    native = kernels_for(native, dtype, config)
    quantization = quantization_on_load(config, model)
    part = part_of(config, model, dtype.itemsize, quantization)
    own = local_config(model, part)
    block_size = config.block_size or default_block_size(native)
    ops = make_cpu_ops(config, own, dtype, block_size, native)
    return _Choice(part, own, dtype, quantization, block_size, native, ops)


def _memory_needs(config: RunnerConfig, model: ModelConfig, choice: _Choice) -> MemoryNeeds:
    own = choice.own
    weights = _weight_bytes(own, choice.dtype, choice.quantization, choice.ops)
    max_step_tokens = step_tokens(config, own, _STEP_TOKENS)
    token_bytes = own.num_layers * choice.ops.attention.token_bytes(own.head_dim)
    available = available_memory() // place_of(config).size
    itemsize = choice.dtype.itemsize
    adapters = room_bytes(config, own, itemsize, token_bytes)
    return MemoryNeeds(
        dtype=dtype_name(choice.dtype),
        num_parameters=count_parameters(model),
        weights=weights,
        workspace=step_bytes(config, own, itemsize, max_step_tokens) + adapters,
        available=available,
        cache=CacheMemory(
            available - weights - adapters, _CACHE_SHARE, token_bytes, choice.block_size
        ),
        max_step_tokens=max_step_tokens,
    )


def _description(threads: int, native: NativeKernels, cpus: RankCpus | None) -> str:
    kernels = f"{native.library.instruction_set} kernels" if native.library else "torch's kernels"
    place = f", {cpus}" if cpus else ""
    return f"cpu ({cpu_name()}, {threads} thread{'s' if threads > 1 else ''}, {kernels}{place})"


def _weight_bytes(
    model: ModelConfig, dtype: torch.dtype, quantization: Quantization | None, ops: AnyCpuOps
) -> int:
    """Bytes of the weights in memory. Weights stay quantised only if `ops` multiplies with codes; a
    CPU has no products in float8, and keeps the rounded numbers in full size."""
    if not ops.keeps_codes or quantization == "fp8":
        model, quantization = replace(model, stored_bits=None, modelslim=None), None
    return weight_bytes(model, dtype.itemsize, quantization)


def default_threads(cores: int, num_bytes: int, *, alone: bool = False) -> int:
    """Threads for the computation: all cores but one, which the server process needs.

    But both of two cores, and one for a tiny model.

    Args:
        cores: usable physical cores.
        num_bytes: of the weights.
        alone: the server process runs on other cores.
    """
    if num_bytes < _TINY_MODEL:
        return 1
    return cores if cores <= 2 or alone else cores - 1


def _computes_bfloat16() -> bool:
    """Whether the CPU has instructions for bfloat16; without them it is slower than float32."""
    return not instruction_sets().isdisjoint({"avx512_bf16", "amx_bf16", "bf16"})
