"""Builds a GpuRunner: weights, KV cache in the remaining memory, graphs, compiled kernels."""

from __future__ import annotations

from typing import Any

import msgspec
import torch

from glmserve.config import ReportProgress, RunnerConfig
from glmserve.contract.step import RunnerInfo
from glmserve.model_config import ModelConfig
from glmserve.model_config.sharding import local_config
from glmserve.models.parameters import count_parameters
from glmserve.models.registry import build_model
from glmserve.runner.accelerator import Accelerator
from glmserve.runner.device_sampler import DeviceSampler
from glmserve.runner.dtypes import dtype_name
from glmserve.runner.gpu_memory import (
    gpu_memory_budget,
    gpu_memory_needs,
    gpu_weight_bytes,
    refuse_drafts,
)
from glmserve.runner.gpu_runner import GpuRunner
from glmserve.runner.graphs import DecodeGraphs, StaticAttention, graph_sizes
from glmserve.runner.limits import agreed
from glmserve.runner.logprobs import LogprobReader
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
        CheckpointError: the weights cannot be read or do not fit config.json.
        DeviceError: the remaining memory is too small for the cache.
        OptionError: --speculative-tokens is given.
    """
    refuse_drafts(config)
    collectives = target.collectives
    own, stages = local_config(model_config, target.part), config.pipeline_parallel_size
    parameters = make_parameters(config, model_config, target, progress)
    model = build_model(own, parameters, target.ops, own.max_context, collectives)
    # Free memory is measured after loading, and the needs count from before.
    free = accelerator.free_memory() + gpu_weight_bytes(own, target)
    available = min(free, gpu_memory_budget(config, accelerator.total_memory()))
    needs = gpu_memory_needs(config, own, target, block_size, available)
    limits = agreed(needs.plan(config, own), collectives.smallest)
    # The first stage of a pipeline does not learn in time what the last one chooses.
    limits = msgspec.structs.replace(
        limits, resolves_placeholders=stages == 1, steps_in_flight=stages
    )
    caches = allocate_caches(model_config, target, limits.num_blocks)
    attention = target.ops.attention
    last_tokens = torch.zeros(limits.max_sequences, dtype=torch.int64, device=target.device)
    graphs = None
    if stages == 1 and isinstance(attention, StaticAttention):
        graphs = DecodeGraphs(
            model, caches, attention, accelerator, limits.max_context, last_tokens
        )
        graphs.record(graph_sizes(limits.max_sequences), progress)
    never_sampled = torch.tensor(config.never_sampled, dtype=torch.int64, device=target.device)
    runner = GpuRunner(
        model=model,
        caches=caches,
        attention=attention,
        sampler=DeviceSampler(
            model_config.vocab_size, config.vocab_limit, config.never_sampled, target.device, chip
        ),
        logprob_reader=LogprobReader(config.vocab_limit, never_sampled),
        accelerator=accelerator,
        graphs=graphs,
        last_tokens=last_tokens,
        info=RunnerInfo(
            limits=limits,
            device=target.description,
            dtype=dtype_name(target.dtype),
            num_parameters=count_parameters(model_config),
            weight_bytes=needs.weights,
            kv_cache_bytes=limits.token_capacity * needs.cache.token_bytes,
            layers=target.part.ends,
        ),
    )
    warm_up(runner)
    return runner
