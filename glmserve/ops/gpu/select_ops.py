"""Selects the operations and the attention backend of a GPU, or explains why an option fails.

Triton is imported only when its kernels are selected.
"""

from __future__ import annotations

from importlib.util import find_spec
from typing import Any, NamedTuple

import torch

from glmserve.config import RunnerConfig
from glmserve.errors import CheckpointError, OptionError
from glmserve.model_config import ModelConfig
from glmserve.ops.attention.backend import AnyAttentionBackend
from glmserve.ops.attention.kv_store import KvStore, make_store
from glmserve.ops.attention.sdpa import SdpaAttention
from glmserve.ops.base import AnyOps, Ops
from glmserve.ops.uploads import Uploads

_SMALLEST_TILE = 16
_OLDEST_CAPABILITY = (8, 0)
_FIRST_WITH_FLOAT8 = (8, 9)


class Gpu(NamedTuple):
    """The properties of a GPU that operations depend on."""

    uploads: Uploads
    """To the GPU."""
    chip: str
    """"sm_90", "gfx942"."""
    capability: tuple[int, int] | None
    """NVIDIA's compute capability; None: not an NVIDIA GPU."""
    multiprocessors: int

    @property
    def device(self) -> torch.device:
        return self.uploads.device


def make_ops(
    config: RunnerConfig, model: ModelConfig, dtype: torch.dtype, block_size: int, gpu: Gpu
) -> AnyOps:
    """The operations that the options name; where they name none, the fastest available ones.

    Args:
        dtype: of activations.
        block_size: token slots per block of the KV cache.

    Raises:
        OptionError: an option is not supported on this GPU; the message says why.
    """
    if config.quantization in ("w8a8", "w4a8"):
        raise OptionError(
            f"--quantization {config.quantization} is for CPUs; int8, int4 and, on newer GPUs of "
            "NVIDIA, fp8 work here"
        )
    if config.quantization == "fp8":
        _refuse_float8(config, gpu)
    if model.modelslim is not None and model.modelslim.rounds_rows:
        raise CheckpointError(
            f"{model.modelslim.description}: W8A8_DYNAMIC is for CPUs and Ascend NPUs; W8A8 and "
            "W8A16 are for all devices"
        )
    if config.cpu_kernels != "auto":
        raise OptionError("--cpu-kernels is for the cpu device; leave it out")
    no_kernels = _why_no_kernels(model, block_size, gpu)
    reason = no_kernels or _why_only_sdpa(config, model)
    if config.deterministic and reason:
        raise OptionError(f"--deterministic cannot be had here: {reason}")
    name = config.attention_backend
    if name in ("native", "npu", "atb"):
        hardware = "CPUs" if name == "native" else "Ascend NPUs"
        raise OptionError(f"--attention-backend {name} is for {hardware}; take triton")
    if name == "triton" and reason:
        raise OptionError(f"--attention-backend triton cannot be used here: {reason}")
    if name == "triton" or (name == "auto" and not reason):
        return _triton_ops(config, model, dtype, block_size, gpu)
    if config.deterministic:
        raise OptionError(f"--deterministic needs the triton attention backend, not {name}")
    store = make_store(config.kv_cache_dtype, dtype)
    prefix = (model.prefix_length, config.prefix_slots)
    attention: AnyAttentionBackend = SdpaAttention(
        model.num_kv_heads, dtype, gpu.device, block_size, store, *prefix, gpu.uploads
    )
    if name == "xformers":
        attention = _xformers_attention(config, model, dtype, block_size, store, gpu)
    if no_kernels:
        return Ops(attention)
    from glmserve.ops.gpu.triton_ops import ElementwiseTritonOps

    return ElementwiseTritonOps(attention, gpu.chip)


def _triton_ops(
    config: RunnerConfig, model: ModelConfig, dtype: torch.dtype, block_size: int, gpu: Gpu
) -> AnyOps:
    from glmserve.ops.attention.batch_invariant_paged import BatchInvariantPagedAttention
    from glmserve.ops.attention.paged import PagedAttention
    from glmserve.ops.attention.paged_cache import PagedGeometry
    from glmserve.ops.gpu.batch_invariant_ops import BatchInvariantTritonOps
    from glmserve.ops.gpu.few_rows import TritonFewRows
    from glmserve.ops.gpu.triton_ops import TritonOps

    geometry = PagedGeometry(
        num_heads=model.num_heads,
        num_kv_heads=model.num_kv_heads,
        head_dim=model.head_dim,
        cache_dtype=_cache_dtype(config, dtype, gpu),
        uploads=gpu.uploads,
        chip=gpu.chip,
        multiprocessors=gpu.multiprocessors,
        block_size=block_size,
    )
    if config.deterministic:
        return BatchInvariantTritonOps(BatchInvariantPagedAttention(geometry), gpu.chip)
    few_rows = TritonFewRows(gpu.chip)
    return TritonOps(PagedAttention(geometry), gpu.chip, few_rows if few_rows.most_rows else None)


def _xformers_attention(
    config: RunnerConfig,
    model: ModelConfig,
    dtype: torch.dtype,
    block_size: int,
    store: KvStore[Any],
    gpu: Gpu,
) -> AnyAttentionBackend:
    if reason := _why_only_sdpa(config, model):
        raise OptionError(f"--attention-backend xformers cannot be used here: {reason}")
    if find_spec("xformers") is None:
        raise OptionError(
            "--attention-backend xformers cannot be used here: the package is not installed "
            "(pip install 'glmserve[xformers]')"
        )
    from glmserve.ops.attention.xformers import XformersAttention

    attention: XformersAttention[Any] = XformersAttention(
        model.num_kv_heads, gpu.device, block_size, store, uploads=gpu.uploads
    )
    attention.check_supported(model.num_heads, model.head_dim, dtype)
    return attention


def _why_only_sdpa(config: RunnerConfig, model: ModelConfig) -> str | None:
    """Why only the sdpa backend supports this model; None: all backends do."""
    if model.prompt_marks is not None:
        return "this model reads its prompts in both directions, which only sdpa can here"
    if model.prefix is not None:
        return "of all backends only sdpa can have a --ptuning-checkpoint here"
    if config.prefix_slots:
        return "of all backends only sdpa can have prefixes of adapters (--max-prefix-length) here"
    return None


def _why_no_kernels(model: ModelConfig, block_size: int, gpu: Gpu) -> str | None:
    """Why our Triton kernels cannot run; None: they can."""
    if gpu.capability is not None and gpu.capability < _OLDEST_CAPABILITY:
        return (
            f"the kernels need an NVIDIA GPU of compute capability 8.0 or more, this is {gpu.chip}"
        )
    if block_size < _SMALLEST_TILE or block_size & (block_size - 1):
        return f"--block-size {block_size} is not a power of two from {_SMALLEST_TILE} on"
    if model.head_dim < _SMALLEST_TILE:
        return f"attention heads of {model.head_dim} numbers are too small for the kernels"
    return None


def _refuse_float8(config: RunnerConfig, gpu: Gpu) -> None:
    """
    Raises:
        OptionError: the GPU has no products in float8, or their results depend on the batch.
    """
    if not _computes_with_float8(gpu):
        raise OptionError(
            f"--quantization fp8: {gpu.chip} does not compute with float8_e4m3fn, NVIDIA GPUs of "
            "compute capability 8.9 or more do; int8 takes as little memory"
        )
    if config.deterministic:
        raise OptionError(
            "--quantization fp8: the library's products in float8 depend on the number of rows, so "
            "--deterministic cannot be had; take int8"
        )


def _computes_with_float8(gpu: Gpu) -> bool:
    return gpu.capability is not None and gpu.capability >= _FIRST_WITH_FLOAT8


def _cache_dtype(config: RunnerConfig, dtype: torch.dtype, gpu: Gpu) -> torch.dtype:
    if config.kv_cache_dtype == "auto":
        return dtype
    if config.kv_cache_dtype == "int8":
        return torch.int8
    if not _computes_with_float8(gpu):
        raise OptionError(
            f"--kv-cache-dtype fp8: {gpu.chip} does not compute with float8_e4m3fn, NVIDIA GPUs of "
            "compute capability 8.9 or more do; int8 takes as little memory"
        )
    return torch.float8_e4m3fn
