"""Builds a GpuRunner: weights, KV cache in the remaining memory, graphs, compiled kernels."""

from __future__ import annotations

from typing import Any

import msgspec
import torch

from glmserve.config import ReportProgress, RunnerConfig
from glmserve.contract.adapter import NO_ADAPTER
from glmserve.contract.step import RunnerInfo, RunnerLimits
from glmserve.model_config import ModelConfig
from glmserve.model_config.sharding import local_config
from glmserve.models.adapter_check import check_adapters
from glmserve.models.parameters import count_parameters
from glmserve.models.registry import build_model
from glmserve.runner.accelerator import Accelerator
from glmserve.runner.adapters import EMPTY_ADAPTER, make_adapters, room_of, slot_bytes
from glmserve.runner.device_sampler import DeviceSampler
from glmserve.runner.dtypes import dtype_name
from glmserve.runner.gpu_memory import (
    gpu_memory_budget,
    gpu_memory_needs,
    gpu_weight_bytes,
    refuse_drafts,
)
from glmserve.runner.gpu_runner import GpuRunner
from glmserve.runner.graph_shapes import graph_shapes
from glmserve.runner.graphs import StepGraphs
from glmserve.runner.limits import MemoryNeeds, agreed
from glmserve.runner.logprobs import LogprobReader
from glmserve.runner.static_steps import StaticAttention, static_adapters
from glmserve.runner.torch_runner import TorchTarget, allocate_caches, make_parameters
from glmserve.runner.warm_up import warm_up


@torch.inference_mode()
def load_gpu_runner(
    config: RunnerConfig,
    model_config: ModelConfig,
    target: TorchTarget,
    accelerator: Accelerator,
    chip: str,
    block_size: int,
    progress: ReportProgress,
) -> GpuRunner[Any, Any]:
    """Load or generate the weights, and give the KV cache the remaining memory.

    Raises:
        CheckpointError: the weights cannot be read or do not fit config.json, or an adapter of the
            command line does not fit.
        DeviceError: the remaining memory is too small for the cache.
        OptionError: --speculative-tokens is given.
    """
    refuse_drafts(config)
    check_adapters(config.adapters, model_config)
    own = local_config(model_config, target.part)
    parameters = make_parameters(config, model_config, target, progress)
    longest = own.max_context + config.max_prefix_length  # the greatest position
    model = build_model(own, parameters, target.ops, longest, target.collectives, room_of(config))
    needs, limits = _plan(config, own, target, accelerator, block_size, slot_bytes(model))
    caches = allocate_caches(model_config, target, limits.num_blocks)
    attention = target.ops.attention
    adapters = make_adapters(
        config, model, model_config, target.part, target.dtype, attention, caches
    )
    last_tokens = torch.zeros(limits.max_sequences, dtype=torch.int64, device=target.device)
    rows = limits.max_sequences if own.stage.is_last else 0
    logits = torch.zeros((rows, model_config.vocab_size), device=target.device)
    graphs = None
    if config.pipeline_parallel_size == 1 and isinstance(attention, StaticAttention):
        planner = static_adapters(target.ops) if adapters else None
        graphs = StepGraphs(
            *(model, caches, attention, planner, limits.max_adapters),
            *(accelerator, last_tokens, logits),
        )
        shapes = graph_shapes(limits.max_sequences, limits.max_step_tokens, limits.max_context)
        graphs.record(shapes, progress)
    never_sampled = torch.tensor(config.never_sampled, dtype=torch.int64, device=target.device)
    runner = GpuRunner(
        model=model,
        caches=caches,
        ops=target.ops,
        sampler=DeviceSampler(
            model_config.vocab_size,
            config.vocab_limit,
            config.never_sampled,
            attention.uploads,
            chip,
        ),
        logprob_reader=LogprobReader(attention.uploads, config.vocab_limit, never_sampled),
        accelerator=accelerator,
        graphs=graphs,
        last_tokens=last_tokens,
        logits=logits,
        info=_info(model_config, target, needs, limits),
        adapters=adapters,
    )
    warm_up(runner, NO_ADAPTER if adapters is None else EMPTY_ADAPTER)
    return runner


def _plan(
    config: RunnerConfig,
    own: ModelConfig,
    target: TorchTarget,
    accelerator: Accelerator,
    block_size: int,
    adapter_bytes: int,
) -> tuple[MemoryNeeds, RunnerLimits]:
    """What the loaded model needs, and what the remaining memory allows.

    Args:
        own: of the rank's part.
        adapter_bytes: that the model's slots for adapters have taken.

    Raises:
        DeviceError: the remaining memory is too small for the cache.
    """
    # Free memory is measured after loading, and the needs count from before.
    free = accelerator.free_memory() + gpu_weight_bytes(own, target) + adapter_bytes
    available = min(free, gpu_memory_budget(config, accelerator.total_memory()))
    needs = gpu_memory_needs(config, own, target, block_size, available)
    stages = config.pipeline_parallel_size
    limits = msgspec.structs.replace(
        agreed(needs.plan(config, own), target.collectives.smallest),
        # The first stage of a pipeline does not learn in time what the last one chooses.
        resolves_placeholders=stages == 1,
        steps_in_flight=stages,
        max_adapters=config.max_adapters,
    )
    return needs, limits


def _info(
    model_config: ModelConfig, target: TorchTarget, needs: MemoryNeeds, limits: RunnerLimits
) -> RunnerInfo:
    return RunnerInfo(
        limits=limits,
        device=target.description,
        dtype=dtype_name(target.dtype),
        num_parameters=count_parameters(model_config),
        weight_bytes=needs.weights,
        kv_cache_bytes=limits.token_capacity * needs.cache.token_bytes,
        layers=target.part.ends,
    )
