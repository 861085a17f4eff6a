"""Which operations and which attention backend a CPU gets, or why it cannot have them."""

from __future__ import annotations

from typing import NamedTuple

import torch

from glmserve.config import RunnerConfig
from glmserve.errors import OptionError
from glmserve.model_config import ModelConfig
from glmserve.ops.attention import AttentionBackend
from glmserve.ops.batch_invariant import BatchInvariantAttention, BatchInvariantCpuOps
from glmserve.ops.cpu import CpuAttention, CpuOps
from glmserve.ops.kv_store import make_store
from glmserve.ops.native_cpu import ACTIVATION_DTYPES, NativeCpuAttention, NativeCpuOps
from glmserve_cpu_kernels.attention import BLOCK, LARGEST_DIM
from glmserve_cpu_kernels.library import Library, UnavailableError, load

_HOST = torch.device("cpu")


class NativeKernels(NamedTuple):
    """Our own kernels, if they can be had."""

    library: Library | None
    reason: str
    """Why they cannot."""


def native_kernels(config: RunnerConfig) -> NativeKernels:
    """The kernels that the options allow.

    Raises:
        OptionError: they are asked for and cannot be had.
    """
    if config.cpu_kernels == "torch":
        return NativeKernels(None, "--cpu-kernels torch leaves them out")
    try:
        return NativeKernels(load(), "")
    except UnavailableError as error:
        return _without(config, str(error))


def kernels_for(native: NativeKernels, dtype: torch.dtype, config: RunnerConfig) -> NativeKernels:
    """Those of them that compute with activations of `dtype`: all, or none.

    Raises:
        OptionError: they are asked for.
    """
    if native.library is None or dtype in ACTIVATION_DTYPES:
        return native
    name = str(dtype).removeprefix("torch.")
    return _without(config, f"they compute in float32 and bfloat16, not in {name}")


def _without(config: RunnerConfig, reason: str) -> NativeKernels:
    if config.cpu_kernels == "native":
        raise OptionError(f"--cpu-kernels native cannot be had here: {reason}")
    return NativeKernels(None, reason)


def default_block_size(native: NativeKernels) -> int:
    """Token slots per block where nobody says."""
    return BLOCK if native.library else 16


def make_cpu_ops(
    config: RunnerConfig,
    model: ModelConfig,
    dtype: torch.dtype,
    block_size: int,
    native: NativeKernels,
) -> CpuOps:
    """The operations that the options ask for, or the best there are.

    Args:
        native: what `kernels_for` gives for `dtype`.

    Raises:
        OptionError: an option cannot be had here; the message says why.
    """
    library = native.library
    _refuse_unserved(config, dtype, native)
    reason = _why_no_native_attention(config, model, block_size, native)
    name = config.attention_backend
    if name not in ("auto", "native", "sdpa"):
        raise OptionError(
            f"--attention-backend {name} cannot be used here: it needs a GPU, and this is the cpu "
            "device; its backends are native and sdpa"
        )
    if name == "native" and reason:
        raise OptionError(f"--attention-backend native cannot be used here: {reason}")
    attention: AttentionBackend
    if library and name != "sdpa" and not reason:
        attention = NativeCpuAttention(
            model.num_kv_heads, block_size, dtype, config.kv_cache_dtype, library
        )
    else:
        store = make_store(config.kv_cache_dtype, dtype)
        heads, prefix = model.num_kv_heads, model.prefix_length
        if config.deterministic:
            attention = BatchInvariantAttention(heads, _HOST, block_size, store, prefix)
        else:
            attention = CpuAttention(heads, dtype, _HOST, block_size, store, prefix)
    if library is None:
        return (BatchInvariantCpuOps if config.deterministic else CpuOps)(attention, dtype)
    has_tiles = _has_amx() and not config.deterministic
    return NativeCpuOps(attention, dtype, library, has_tiles=has_tiles)


def _refuse_unserved(config: RunnerConfig, dtype: torch.dtype, native: NativeKernels) -> None:
    if native.library is not None:
        return
    reason = native.reason
    if config.quantization == "w4a8":
        raise OptionError(f"--quantization w4a8 needs glmserve's own CPU kernels: {reason}")
    if config.quantization == "w8a8" and dtype != torch.bfloat16:
        name = str(dtype).removeprefix("torch.")
        raise OptionError(
            f"--quantization w8a8 in {name} needs glmserve's own CPU kernels: {reason}; add "
            "--dtype bfloat16, or take int8"
        )


def _why_no_native_attention(
    config: RunnerConfig, model: ModelConfig, block_size: int, native: NativeKernels
) -> str | None:
    """None: nothing speaks against it."""
    if native.library is None:
        return native.reason
    if block_size % BLOCK:
        return f"it needs a --block-size of {BLOCK}, or a multiple; this is {block_size}"
    if model.head_dim > LARGEST_DIM:
        return f"heads of {model.head_dim} numbers are more than its {LARGEST_DIM}"
    if model.prefix is not None:
        return "it does not know the prefix of a --ptuning-checkpoint"
    if config.kv_cache_dtype not in ("auto", "int8"):
        return f"it does not keep K and V as {config.kv_cache_dtype}"
    return None


def _has_amx() -> bool:
    return bool(torch.cpu.get_capabilities().get("amx_bf16"))
