"""Which operations and which attention backend a GPU gets, or why it cannot have them."""

from __future__ import annotations

from importlib.util import find_spec
from typing import NamedTuple

import torch

from glmserve.config import RunnerConfig
from glmserve.errors import OptionError
from glmserve.model_config import ModelConfig
from glmserve.ops.attention import AttentionBackend
from glmserve.ops.base import Ops
from glmserve.ops.kv_store import KvStore, make_store
from glmserve.ops.sdpa import SdpaAttention

_SMALLEST_PAGE = 16
_OLDEST_CAPABILITY = (8, 0)
_FIRST_WITH_FLOAT8 = (8, 9)


class Gpu(NamedTuple):
    """What matters about a GPU."""

    device: torch.device
    chip: str
    """"sm_90", "gfx942"."""
    capability: tuple[int, int] | None
    """NVIDIA's compute capability; None: another maker's."""
    multiprocessors: int


def make_ops(
    config: RunnerConfig, model: ModelConfig, dtype: torch.dtype, block_size: int, gpu: Gpu
) -> Ops:
    """The operations that the options ask for, or the best there are.

    Raises:
        OptionError: an option cannot be had here; the message says why.
    """
    if config.quantization in ("w8a8", "w4a8"):
        raise OptionError(
            f"--quantization {config.quantization} is for CPUs; int8 and int4 are for all devices"
        )
    if config.cpu_kernels != "auto":
        raise OptionError("--cpu-kernels is for the cpu device; leave it out")
    no_kernels = _why_no_kernels(model, block_size, gpu)
    reason = no_kernels or _why_only_sdpa(model)
    if config.deterministic and reason:
        raise OptionError(f"--deterministic cannot be had here: {reason}")
    name = config.attention_backend
    if name == "native":
        raise OptionError("--attention-backend native is for CPUs; take triton")
    if name == "triton" and reason:
        raise OptionError(f"--attention-backend triton cannot be used here: {reason}")
    if name == "triton" or (name == "auto" and not reason):
        return _triton_ops(config, model, dtype, block_size, gpu)
    if config.deterministic:
        raise OptionError(f"--deterministic needs the triton attention backend, not {name}")
    store = make_store(config.kv_cache_dtype, dtype)
    attention: AttentionBackend = SdpaAttention(
        model.num_kv_heads, dtype, gpu.device, block_size, store, model.prefix_length
    )
    if name == "xformers":
        attention = _xformers_attention(model, dtype, block_size, store, gpu)
    if no_kernels:
        return Ops(attention)
    from glmserve.ops.triton import ElementwiseTritonOps

    return ElementwiseTritonOps(attention, gpu.chip)


def _triton_ops(
    config: RunnerConfig, model: ModelConfig, dtype: torch.dtype, block_size: int, gpu: Gpu
) -> Ops:
    from glmserve.ops.batch_invariant_triton import (
        BatchInvariantPagedAttention,
        BatchInvariantTritonOps,
    )
    from glmserve.ops.paged_attention import PagedAttention
    from glmserve.ops.paged_cache import PagedGeometry
    from glmserve.ops.triton import TritonOps

    geometry = PagedGeometry(
        num_heads=model.num_heads,
        num_kv_heads=model.num_kv_heads,
        head_dim=model.head_dim,
        cache_dtype=_cache_dtype(config, dtype, gpu),
        device=gpu.device,
        chip=gpu.chip,
        multiprocessors=gpu.multiprocessors,
        block_size=block_size,
    )
    if config.deterministic:
        return BatchInvariantTritonOps(BatchInvariantPagedAttention(geometry), gpu.chip)
    return TritonOps(PagedAttention(geometry), gpu.chip)


def _xformers_attention(
    model: ModelConfig, dtype: torch.dtype, block_size: int, store: KvStore, gpu: Gpu
) -> AttentionBackend:
    if reason := _why_only_sdpa(model):
        raise OptionError(f"--attention-backend xformers cannot be used here: {reason}")
    if find_spec("xformers") is None:
        raise OptionError(
            "--attention-backend xformers cannot be used here: the package is not installed "
            "(pip install 'glmserve[xformers]')"
        )
    from glmserve.ops.xformers import XformersAttention

    attention = XformersAttention(model.num_kv_heads, gpu.device, block_size, store)
    attention.prove_it_runs(model.num_heads, model.head_dim, dtype)
    return attention


def _why_only_sdpa(model: ModelConfig) -> str | None:
    """None: every token attends to those before it, which all backends can."""
    if model.prompt_marks is not None:
        return "this model reads its prompts in both directions, which only sdpa can here"
    if model.prefix is not None:
        return "of all backends only sdpa can have a --ptuning-checkpoint here"
    return None


def _why_no_kernels(model: ModelConfig, block_size: int, gpu: Gpu) -> str | None:
    """None: nothing speaks against our kernels."""
    if gpu.capability is not None and gpu.capability < _OLDEST_CAPABILITY:
        return (
            f"the kernels need an NVIDIA GPU of compute capability 8.0 or more, this is {gpu.chip}"
        )
    if block_size < _SMALLEST_PAGE or block_size & (block_size - 1):
        return f"--block-size {block_size} is not a power of two from {_SMALLEST_PAGE} on"
    if model.head_dim < _SMALLEST_PAGE:
        return f"attention heads of {model.head_dim} numbers are too small for the kernels"
    return None


def _cache_dtype(config: RunnerConfig, dtype: torch.dtype, gpu: Gpu) -> torch.dtype:
    if config.kv_cache_dtype == "auto":
        return dtype
    if config.kv_cache_dtype == "int8":
        return torch.int8
    if gpu.capability is None or gpu.capability < _FIRST_WITH_FLOAT8:
        raise OptionError(
            f"--kv-cache-dtype fp8: {gpu.chip} does not compute with float8_e4m3fn, NVIDIA GPUs of "
            "compute capability 8.9 or more do; int8 takes as little memory"
        )
    return torch.float8_e4m3fn
