"""Selects the operations and the attention backend of a CPU, or explains why an option fails."""

from __future__ import annotations

import logging
from typing import NamedTuple

import torch

from glmserve.config import RunnerConfig
from glmserve.errors import OptionError
from glmserve.model_config import ModelConfig
from glmserve.ops.attention.backend import AnyAttentionBackend
from glmserve.ops.attention.batch_invariant import BatchInvariantAttention
from glmserve.ops.attention.kv_store import make_store
from glmserve.ops.attention.native_cpu import NativeCpuAttention
from glmserve.ops.attention.sdpa import CpuSdpaAttention
from glmserve.ops.cpu.batch_invariant_ops import BatchInvariantCpuOps
from glmserve.ops.cpu.native_ops import ACTIVATION_DTYPES, NativeCpuOps
from glmserve.ops.cpu.torch_ops import AnyCpuOps, TorchCpuOps
from glmserve_cpu_kernels.attention import LARGEST_DIM, SUBBLOCK
from glmserve_cpu_kernels.library import Library, UnavailableError, load

_HOST = torch.device("cpu")
_logger = logging.getLogger(__name__)


class NativeKernels(NamedTuple):
    """Our own kernels, if they can be loaded."""

    library: Library | None
    reason: str
    """Why there is no library; empty if there is one."""


def native_kernels(config: RunnerConfig) -> NativeKernels:
    """Load our own kernels if the options allow it.

    Raises:
        OptionError: --cpu-kernels native, and they cannot be loaded.
    """
    if config.cpu_kernels == "torch":
        return NativeKernels(None, "--cpu-kernels torch leaves them out")
    try:
        library = load()
    except UnavailableError as error:
        return _without(config, str(error))
    if config.cpu_kernels == "no-amx":
        library.leave_out_amx()
    return NativeKernels(library, "")


def kernels_for(native: NativeKernels, dtype: torch.dtype, config: RunnerConfig) -> NativeKernels:
    """`native` if its kernels support activations of `dtype`, else without a library.

    Raises:
        OptionError: --cpu-kernels native, and they do not support `dtype`.
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
    """Token slots per block if --block-size is not given."""
    return SUBBLOCK if native.library else 16


def make_cpu_ops(
    config: RunnerConfig,
    model: ModelConfig,
    dtype: torch.dtype,
    block_size: int,
    native: NativeKernels,
) -> AnyCpuOps:
    """The operations that the options name; where they name none, the fastest available ones.

    Args:
        dtype: of activations.
        block_size: token slots per block of the KV cache.
        native: the result of `kernels_for(native, dtype, config)`.

    Raises:
        OptionError: an option is not supported on this CPU; the message says why.
    """
    library = native.library
    _check_quantization(config, model, dtype, native)
    reason = _why_no_native_attention(config, model, block_size, native)
    name = config.attention_backend
    if name not in ("auto", "native", "sdpa"):
        hardware = "an Ascend NPU" if name in ("npu", "atb") else "a GPU"
        raise OptionError(
            f"--attention-backend {name} cannot be used here: it needs {hardware}, and this is the "
            "cpu device; its backends are native and sdpa"
        )
    if name == "native" and reason:
        raise OptionError(f"--attention-backend native cannot be used here: {reason}")
    attention: AnyAttentionBackend
    if library and name != "sdpa" and not reason:
        place = -(-config.max_prefix_length // block_size) * block_size
        attention = NativeCpuAttention(
            *(model.num_kv_heads, block_size, dtype, config.kv_cache_dtype, library),
            *(model.prefix_length, config.max_adapters * place),
        )
    else:
        if library and reason and name == "auto":
            _warn_of_torch_attention(config, reason)
        store = make_store(config.kv_cache_dtype, dtype)
        heads, prefix = model.num_kv_heads, (model.prefix_length, config.prefix_slots)
        if config.deterministic:
            attention = BatchInvariantAttention(heads, _HOST, block_size, store, *prefix)
        else:
            attention = CpuSdpaAttention(heads, dtype, _HOST, block_size, store, *prefix)
    if library is None:
        return (BatchInvariantCpuOps if config.deterministic else TorchCpuOps)(attention, dtype)
    return NativeCpuOps(attention, dtype, library)


def _warn_of_torch_attention(config: RunnerConfig, reason: str) -> None:
    consequence = (
        "it is slower"
        if config.deterministic
        else "it is slower, and an answer may depend on the other requests in its steps (add "
        "--deterministic to prevent that)"
    )
    _logger.warning(
        "attention is computed by torch, not by glmserve's own kernel: %s; %s", reason, consequence
    )


def _check_quantization(
    config: RunnerConfig, model: ModelConfig, dtype: torch.dtype, native: NativeKernels
) -> None:
    if native.library is not None:
        return
    reason = native.reason
    if config.quantization == "w4a8":
        raise OptionError(f"--quantization w4a8 needs glmserve's own CPU kernels: {reason}")
    name = str(dtype).removeprefix("torch.")
    if config.quantization == "w8a8" and dtype != torch.bfloat16:
        raise OptionError(
            f"--quantization w8a8 in {name} needs glmserve's own CPU kernels: {reason}; add "
            "--dtype bfloat16, or take int8"
        )
    if model.modelslim is not None and model.modelslim.rounds_rows and dtype != torch.bfloat16:
        raise OptionError(
            f"{model.modelslim.description}: W8A8_DYNAMIC in {name} needs glmserve's own CPU "
            f"kernels: {reason}; add --dtype bfloat16"
        )


def _why_no_native_attention(
    config: RunnerConfig, model: ModelConfig, block_size: int, native: NativeKernels
) -> str | None:
    """Why the native attention backend cannot be used; None: it can."""
    if native.library is None:
        return native.reason
    if block_size % SUBBLOCK:
        return f"it needs a --block-size of {SUBBLOCK}, or a multiple; this is {block_size}"
    if model.head_dim > LARGEST_DIM:
        return f"heads of {model.head_dim} numbers are more than its {LARGEST_DIM}"
    if config.kv_cache_dtype not in ("auto", "int8"):
        return f"it does not keep K and V as {config.kv_cache_dtype}"
    return None
