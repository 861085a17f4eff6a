"""What the devices of compiled folders share: folder, options, limits, choice of tokens."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import msgspec
import torch

from glmserve.config import GraphTarget, ReportProgress, RunnerConfig
from glmserve.contract.step import RunnerLimits
from glmserve.devices.host import available_memory
from glmserve.errors import CheckpointError, DeviceError, OptionError
from glmserve.graphs.manifest import Manifest, check_files, is_compiled, read_manifest
from glmserve.model_config import ModelConfig, read_model_config
from glmserve.ops.base import AnyOps
from glmserve.ops.cpu.select_ops import make_cpu_ops, native_kernels
from glmserve.process.cpus import usable_cores
from glmserve.runner.dtypes import DTYPES
from glmserve.runner.limits import CacheMemory, MemoryNeeds, format_bytes

_SAMPLING_BLOCK = 32  # slots; the operations only choose tokens here

_FIXED = {
    "attention_backend": "auto",
    "deterministic": False,
    "gpu_memory_utilization": None,
    "block_size": None,
    "ptuning_checkpoint": None,
    "load_format": "auto",
}
"""Options that a compiled folder has decided, with the values that ask for nothing."""


@dataclass(frozen=True)
class CompiledModel:
    """A compiled folder, opened."""

    folder: Path
    manifest: Manifest
    model: ModelConfig


def open_compiled(
    config: RunnerConfig, runtimes: tuple[GraphTarget, ...], progress: ReportProgress
) -> CompiledModel:
    """Read and check the folder that --checkpoint names.

    Args:
        runtimes: what the device executes.

    Raises:
        CheckpointError: it is no compiled folder, or a damaged one.
        OptionError: an option asks for what the folder is not.
    """
    folder, manifest = Path(config.checkpoint), fitting_manifest(config, runtimes)
    check_files(folder, manifest, progress)
    return CompiledModel(folder, manifest, read_model_config(folder, manifest.rope_scaling))


def fitting_manifest(config: RunnerConfig, runtimes: tuple[GraphTarget, ...]) -> Manifest:
    """The manifest of the folder that --checkpoint names, if device and options fit it.

    Raises:
        CheckpointError: it is no compiled folder, or its manifest is damaged.
        OptionError: an option asks for what the folder is not.
    """
    folder = Path(config.checkpoint)
    name = config.device.partition(":")[0]
    if not is_compiled(folder):
        raise CheckpointError(
            f"{folder}: --device {name} serves compiled folders only; write one with "
            f"`glmserve compile {folder} TARGET --for {runtimes[0]}`, and serve TARGET"
        )
    manifest = read_manifest(folder)
    if manifest.runtime not in runtimes:
        raise OptionError(
            f"--device {name}: {folder} was compiled for {manifest.runtime}; leave --device out, "
            f"or compile the checkpoint with --for {runtimes[0]}"
        )
    refuse_fixed_options(config, manifest)
    return manifest


def refuse_fixed_options(config: RunnerConfig, manifest: Manifest) -> None:
    """Refuse options that contradict what was compiled.

    Raises:
        OptionError: one does; the message names it.
    """
    if config.dtype not in ("auto", manifest.dtype):
        raise OptionError(
            f"--dtype {config.dtype}: the graphs were compiled in {manifest.dtype}; leave it out, "
            "or compile the checkpoint again"
        )
    if config.quantization not in (None, manifest.quantization):
        raise OptionError(
            f"--quantization {config.quantization}: the weights were compiled in "
            f"{manifest.quantization or manifest.dtype}; leave it out, or compile the checkpoint "
            "again"
        )
    if config.rope_scaling not in (None, manifest.rope_scaling):
        raise OptionError("--rope-scaling is decided when a checkpoint is compiled; leave it out")
    if config.kv_cache_dtype != "auto" and manifest.attention == "lanes":
        raise OptionError(
            f"--kv-cache-dtype {config.kv_cache_dtype}: lanes hold {manifest.dtype}; leave it out"
        )
    for name, neutral in _FIXED.items():
        if getattr(config, name) != neutral:
            raise OptionError(
                f"--{name.replace('_', '-')} is decided when a checkpoint is compiled; leave it out"
            )


def lane_limits(config: RunnerConfig, manifest: Manifest) -> RunnerLimits:
    """The limits of static graphs over lanes.

    Raises:
        OptionError: an option asks for what the graphs do not have.
    """
    if config.drafts:
        raise OptionError(
            "--speculative-tokens: static graphs compute one token of a request in a step; leave "
            "it out"
        )
    lanes, at_once = max(manifest.batch_sizes), named_places(config)
    slots = lanes * manifest.total_len
    # A worker that replaces another is asked for the same size.
    if config.kv_cache_tokens not in (None, slots) or config.kv_cache_memory is not None:
        raise OptionError(
            f"--kv-cache-tokens and --kv-cache-memory: the graphs have {lanes} lanes of "
            f"{manifest.total_len} tokens, by --batch-sizes and --total-len of `glmserve compile`; "
            "leave them out"
        )
    return RunnerLimits(
        num_blocks=lanes,
        block_size=manifest.total_len,
        max_sequences=min(lanes, config.batch_size),
        max_step_tokens=max(config.max_step_tokens or manifest.prompt_len, lanes),
        max_context=context_length(config, manifest),
        batch_sizes=manifest.batch_sizes,
        mixes_prefill_and_decode=False,
        prefix_cache=False,
        resolves_placeholders=at_once == 1,
        waits_for_steps=at_once == 1,
        steps_in_flight=at_once,
    )


def named_places(config: RunnerConfig) -> int:
    """Devices that --device names behind its colon; parts on several work at the same time."""
    return len(config.device.partition(":")[2].split(","))


def places_of(config: RunnerConfig, manifest: Manifest, default: str) -> list[str]:
    """Names of the runtime's devices, one for each part of the graphs: what follows the colon of
    --device. One name stands for all parts.

    Raises:
        OptionError: there are more or fewer names than parts.
    """
    found = (config.device.partition(":")[2] or default).split(",")
    parts = max(1, len(manifest.split))
    if len(found) not in (1, parts):
        raise OptionError(
            f"--device {config.device}: names {count_of(len(found), 'device')}, and the graphs "
            f"have {count_of(parts, 'part')}; name as many, or one for all"
        )
    return found * parts if len(found) == 1 else found


@dataclass(frozen=True)
class LaneNeeds(MemoryNeeds):
    """What static graphs need: their lanes were sized when they were compiled."""

    limits: RunnerLimits

    def plan(self, config: RunnerConfig, model: ModelConfig) -> RunnerLimits:
        needed = self.weights + self.limits.token_capacity * self.cache.token_bytes
        if needed > self.available:
            raise DeviceError(
                f"not enough memory: weights and lanes need {format_bytes(needed)}, "
                f"{format_bytes(max(0, self.available))} are available; compile the checkpoint "
                "with fewer --batch-sizes or a smaller --total-len"
            )
        return self.limits


def lane_needs(config: RunnerConfig, model: ModelConfig, manifest: Manifest) -> LaneNeeds:
    """The memory needs of static graphs. Each graph may take the weights anew.

    Raises:
        OptionError: an option asks for what the graphs do not have.
    """
    limits, weights = lane_limits(config, manifest), manifest.weight_bytes
    available = available_memory()
    itemsize = DTYPES[manifest.dtype].itemsize
    token_bytes = 2 * model.num_layers * model.num_kv_heads * model.head_dim * itemsize
    return LaneNeeds(
        dtype=manifest.dtype,
        num_parameters=manifest.num_parameters,
        weights=weights,
        workspace=weights * len(manifest.batch_sizes),
        available=available,
        cache=CacheMemory(available - weights, 1.0, token_bytes, limits.block_size),
        max_step_tokens=limits.max_step_tokens,
        limits=limits,
    )


def context_length(config: RunnerConfig, manifest: Manifest) -> int:
    """Longest prompt and answer together.

    Raises:
        OptionError: --max-model-len is more than was compiled.
    """
    wanted = config.max_model_len
    if wanted is not None and wanted > manifest.total_len:
        raise OptionError(
            f"--max-model-len {wanted} is more than the {manifest.total_len} tokens for which the "
            "graphs were compiled; compile the checkpoint again with a larger --total-len"
        )
    return wanted or manifest.total_len


def threads_of(config: RunnerConfig, default: Callable[..., int], manifest: Manifest) -> int:
    """Threads of each part of the graphs. Parts that work at the same time share them."""
    total = config.threads or default(usable_cores(), manifest.weight_bytes)
    return max(1, total // named_places(config))


def count_of(number: int, thing: str) -> str:
    """ "1 thread", "2 threads"."""
    return f"{number} {thing}{'' if number == 1 else 's'}"


def sampling_ops(config: RunnerConfig, model: ModelConfig) -> AnyOps:
    """Operations whose argmax and draw choose tokens on the host."""
    plain = msgspec.structs.replace(config, quantization=None)  # the graphs have it
    return make_cpu_ops(plain, model, torch.float32, _SAMPLING_BLOCK, native_kernels(plain))
