"""The worker's config, made of the options for model, device and scheduling."""

from __future__ import annotations

import argparse
import os
from collections.abc import Mapping

from glmserve.cli.cores import place_worker
from glmserve.config import NpuEnvironment, RunnerConfig
from glmserve.errors import OptionError


def runner_config(options: argparse.Namespace) -> RunnerConfig:
    """The config of the worker process.

    Raises:
        OptionError: the process may not use these CPUs, or two options contradict each other.
    """
    _check(options)
    placement = place_worker(options.cpus, options.numa_node)
    return RunnerConfig(
        checkpoint=str(options.checkpoint),
        ptuning_checkpoint=options.ptuning_checkpoint and str(options.ptuning_checkpoint),
        device=options.device,
        load_format=options.load_format,
        dtype=options.dtype,
        quantization=options.quantization,
        rope_scaling=options.rope_scaling,
        seed=options.seed,
        max_model_len=options.max_model_len,
        max_batch_size=options.max_batch_size,
        max_step_tokens=options.max_step_tokens,
        drafts=options.speculative_tokens > 0,
        block_size=options.block_size,
        kv_cache_dtype=options.kv_cache_dtype,
        attention_backend=options.attention_backend,
        cpu_kernels=options.cpu_kernels,
        deterministic=options.deterministic,
        kv_cache_memory=options.kv_cache_memory,
        kv_cache_tokens=options.kv_cache_tokens,
        gpu_memory_utilization=options.gpu_memory_utilization,
        threads=options.threads,
        tensor_parallel_size=options.tensor_parallel_size,
        debug=options.debug,
        cpus=placement.cpus,
        numa_node=placement.numa_node,
        npu=npu_environment(os.environ),
    )


def npu_environment(environment: Mapping[str, str]) -> NpuEnvironment:
    """The variables that the ascend device honours; it checks their values."""
    return NpuEnvironment(
        visible_devices=environment.get("ASCEND_RT_VISIBLE_DEVICES"),
        bind_cpu=environment.get("BIND_CPU"),
        allocator=environment.get("PYTORCH_NPU_ALLOC_CONF"),
        task_queue=environment.get("TASK_QUEUE_ENABLE"),
    )


def _check(options: argparse.Namespace) -> None:
    if options.kv_cache_memory and options.kv_cache_tokens:
        raise OptionError("--kv-cache-memory and --kv-cache-tokens say the same; give one of them")
    if options.max_step_tokens and options.max_step_tokens < options.max_batch_size:
        raise OptionError(
            f"--max-step-tokens {options.max_step_tokens} leaves some of --max-batch-size "
            f"{options.max_batch_size} requests without their token; raise it"
        )
