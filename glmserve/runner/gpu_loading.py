"""Builds a GpuRunner: weights, KV cache in the memory that is left, graphs, compiled kernels."""

from __future__ import annotations

import msgspec
import torch

from glmserve.config import ReportProgress, RunnerConfig
from glmserve.errors import OptionError
from glmserve.model_config import ModelConfig
from glmserve.models.parameters import count_parameters, weight_bytes
from glmserve.models.registry import build_model
from glmserve.runner.accelerator import Accelerator
from glmserve.runner.device_sampler import DeviceSampler
from glmserve.runner.dtypes import dtype_name
from glmserve.runner.gpu_runner import GpuRunner
from glmserve.runner.graphs import DecodeGraphs, StaticAttention, graph_sizes
from glmserve.runner.limits import CacheMemory, activation_bytes, plan_limits, step_tokens
from glmserve.runner.logprobs import LogprobReader
from glmserve.runner.torch_runner import TorchTarget, allocate_caches, make_parameters
from glmserve.runner.warm_up import warm_up
from glmserve.step import RunnerInfo

_STEP_TOKENS = 2048
_CACHE_SHARE = 0.97
"""Of what is left beside weights and activations; allocators lose some to fragments."""


@torch.inference_mode()
def load_gpu_runner(
    config: RunnerConfig,
    model_config: ModelConfig,
    target: TorchTarget,
    accelerator: Accelerator,
    chip: str,
    block_size: int,
    progress: ReportProgress,
) -> GpuRunner:
    """Load or make up the weights, and give the KV cache what memory they leave.

    Raises:
        CheckpointError: the weights cannot be read or do not fit config.json.
        DeviceError: the memory left holds no useful cache.
        OptionError: drafts are asked for.
    """
    if config.drafts:
        raise OptionError(
            "--speculative-tokens works on a CPU only so far: a GPU's steps are planned before the "
            "tokens are known that a guess would follow"
        )
    parameters = make_parameters(config, model_config, target, progress)
    model = build_model(model_config, parameters, target.ops, model_config.max_context)
    attention = target.ops.attention
    token_bytes = model_config.num_layers * attention.token_bytes(model_config.head_dim)
    max_step_tokens = step_tokens(config, model_config, _STEP_TOKENS)
    reserved = activation_bytes(config, model_config, target.dtype.itemsize, max_step_tokens)
    memory = CacheMemory(
        accelerator.free_memory() - reserved, _CACHE_SHARE, token_bytes, block_size
    )
    limits = msgspec.structs.replace(
        plan_limits(config, model_config, memory, max_step_tokens), resolves_pending=True
    )
    caches = allocate_caches(model_config, target, limits.num_blocks)
    last_tokens = torch.zeros(limits.max_sequences, dtype=torch.int64, device=target.device)
    graphs = None
    if isinstance(attention, StaticAttention):
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
            weight_bytes=weight_bytes(model_config, target.dtype.itemsize, target.quantization),
            kv_cache_bytes=limits.token_capacity * token_bytes,
        ),
    )
    warm_up(runner)
    return runner
