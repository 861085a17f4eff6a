"""Selects the operations and the attention backend of an NPU, or explains why an option fails."""

from __future__ import annotations

import torch

from glmserve.config import RunnerConfig
from glmserve.errors import OptionError
from glmserve.model_config import ModelConfig
from glmserve.ops.ascend.ascend_ops import AscendOps, FusedAscendOps
from glmserve.ops.ascend.chip import Chip
from glmserve.ops.attention.backend import AnyAttentionBackend
from glmserve.ops.attention.kv_store import make_store
from glmserve.ops.attention.npu import AtbAttention, IncreAttention, NpuAttention
from glmserve.ops.attention.npu_cache import BLOCK_SIZE, LARGEST_BLOCK, NpuGeometry
from glmserve.ops.attention.npu_int8 import NpuInt8Attention
from glmserve.ops.attention.sdpa import SdpaAttention
from glmserve.ops.base import AnyOps

_VENDORS: dict[str, type[NpuAttention]] = {
    "npu": NpuAttention,
    "incre": IncreAttention,
    "atb": AtbAttention,
}
"""Backends of the vendor's calls, by --attention-backend."""
_HEAD_MULTIPLE = {"auto": 16, "int8": 32}
"""Of the numbers of a head, by --kv-cache-dtype: 32 bytes."""
_LARGEST_HEAD = 512
_MOST_HEADS_PER_KV_HEAD = 64
_LARGEST_TOKEN = 65535
"""Numbers of all key heads of a token: the limit of the layout that the cache has."""


def make_ascend_ops(
    config: RunnerConfig,
    model: ModelConfig,
    dtype: torch.dtype,
    block_size: int,
    device: torch.device,
    chip: Chip,
) -> AnyOps:
    """The operations that the options name; where they name none, the fastest available ones.

    Args:
        dtype: of activations.
        block_size: token slots per block of the KV cache.

    Raises:
        OptionError: an option is not supported on this NPU; the message says why.
    """
    _check_options(config, model, chip)
    reason = _why_only_sdpa(config, model, block_size, chip)
    name = config.attention_backend
    if name in _VENDORS and reason:
        raise OptionError(f"--attention-backend {name} cannot be used here: {reason}")
    attention: AnyAttentionBackend
    if name == "sdpa" or reason:
        store = make_store(config.kv_cache_dtype, dtype)
        prefix = (model.prefix_length, config.prefix_slots)
        attention = SdpaAttention(model.num_kv_heads, dtype, device, block_size, store, *prefix)
    else:
        geometry = NpuGeometry(
            model.num_heads, model.num_kv_heads, model.head_dim, dtype, device, block_size
        )
        attention = _vendor_attention(config, geometry)
    kind = FusedAscendOps if chip.has_fused_calls else AscendOps
    return kind(attention, dtype, chip)


def _vendor_attention(config: RunnerConfig, geometry: NpuGeometry) -> AnyAttentionBackend:
    if config.kv_cache_dtype == "int8":
        if config.attention_backend in ("atb", "incre"):
            raise OptionError(
                f"--attention-backend {config.attention_backend}: it does not read "
                "--kv-cache-dtype int8 with a scale for each token; take npu"
            )
        return NpuInt8Attention(geometry)
    return _VENDORS.get(config.attention_backend, NpuAttention)(geometry)


def _check_options(config: RunnerConfig, model: ModelConfig, chip: Chip) -> None:
    """Refuse what no backend has on this NPU."""
    if config.cpu_kernels != "auto":
        raise OptionError("--cpu-kernels is for the cpu device; leave it out")
    if config.attention_backend not in ("auto", *_VENDORS, "sdpa"):
        raise OptionError(
            f"--attention-backend {config.attention_backend} is not for Ascend NPUs, which have "
            "npu, incre, atb and sdpa"
        )
    if config.deterministic:
        raise OptionError(
            "--deterministic cannot be had on an Ascend NPU: the vendor's kernels choose the order "
            "of sums by the size of the batch"
        )
    if model.modelslim is not None and model.modelslim.rounds_rows and not chip.has_fused_calls:
        raise OptionError(
            f"{model.modelslim.description}: W8A8_DYNAMIC: {chip.name} does not round activations "
            "row by row; quantise to W8A8"
        )
    if config.quantization in ("w4a8", "fp8"):
        hardware = "CPUs" if config.quantization == "w4a8" else "newer GPUs of NVIDIA"
        raise OptionError(
            f"--quantization {config.quantization} is for {hardware}; w8a8, int8 and int4 work here"
        )
    if config.quantization == "w8a8" and not chip.has_fused_calls:
        raise OptionError(
            f"--quantization w8a8: {chip.name} does not round activations row by row; take int8"
        )
    if config.kv_cache_dtype == "fp8":
        raise OptionError("--kv-cache-dtype fp8 is for NVIDIA GPUs; int8 takes as little memory")


def _why_only_sdpa(
    config: RunnerConfig, model: ModelConfig, block_size: int, chip: Chip
) -> str | None:
    """Why the vendor's attention cannot compute this; None: it can."""
    if not chip.has_fused_calls:
        return f"{chip.name} does not have it; Atlas A2 and A3 do"
    if model.prompt_marks is not None:
        return "this model reads its prompts in both directions, which only sdpa can here"
    if model.prefix is not None:
        return "of all backends only sdpa can have a --ptuning-checkpoint here"
    if config.prefix_slots:
        return "of all backends only sdpa can have prefixes of adapters (--max-prefix-length) here"
    if block_size % BLOCK_SIZE or block_size > LARGEST_BLOCK:
        return f"it needs a --block-size of 128, 256, 384 or 512; this is {block_size}"
    multiple = _HEAD_MULTIPLE[config.kv_cache_dtype]
    if model.head_dim % multiple or model.head_dim > _LARGEST_HEAD:
        return (
            f"heads of {model.head_dim} numbers are no multiple of {multiple} up to {_LARGEST_HEAD}"
        )
    if model.num_heads // model.num_kv_heads > _MOST_HEADS_PER_KV_HEAD:
        return f"more than {_MOST_HEADS_PER_KV_HEAD} heads share keys and values"
    if model.num_kv_heads * model.head_dim > _LARGEST_TOKEN:
        return f"a token has more than {_LARGEST_TOKEN} numbers in its keys"
    return None
