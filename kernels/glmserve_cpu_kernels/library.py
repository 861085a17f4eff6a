"""Loads the compiled kernels."""

from __future__ import annotations

import ctypes
import logging
from ctypes import c_char_p, c_float, c_int, c_int32, c_size_t, c_void_p
from functools import cache
from typing import Any

import torch

from glmserve_cpu_kernels.build import LIBRARY
from glmserve_cpu_kernels.weights_memory import WeightsMemory

_log = logging.getLogger(__name__)


class UnavailableError(Exception):
    """The kernels cannot be used on this machine; the message says why."""


class CLinear(ctypes.Structure):
    """`struct Linear` of src/linear.h."""

    _fields_ = (
        ("format", c_int32),
        ("outputs", c_int32),
        ("inputs", c_int32),
        ("group", c_int32),
        ("weight_groups", c_int32),
        ("limbs", c_int32),
        ("weights", c_void_p),
        ("scales", c_void_p),
        ("group_scales", c_void_p),
    )


class CKvCache(ctypes.Structure):
    """`struct KvCache` of src/attention.h."""

    _fields_ = (
        ("type", c_int32),
        ("is_int8", c_int32),
        ("kv_heads", c_int32),
        ("dim", c_int32),
        ("numbers", c_void_p),
        ("scales", c_void_p),
    )


class CAttentionStep(ctypes.Structure):
    """`struct AttentionStep` of src/attention.h."""

    _fields_ = (
        ("tokens", c_int32),
        ("sequences", c_int32),
        ("table_stride", c_int32),
        ("subblocks_per_block", c_int32),
        ("slots", c_void_p),
        ("last_visible", c_void_p),
        ("query_start", c_void_p),
        ("contexts", c_void_p),
        ("block_tables", c_void_p),
        ("hidden", c_void_p),
    )


class CLoraAdapter(ctypes.Structure):
    """`struct LoraAdapter` of src/lora.h."""

    _fields_ = (
        ("a", c_void_p),
        ("b", c_void_p),
        ("bias", c_void_p),
        ("rank", c_int32),
        ("unused", c_int32),
    )


class CLoraRows(ctypes.Structure):
    """`struct LoraRows` of src/lora.h."""

    _fields_ = (
        ("order", c_void_p),
        ("slots", c_void_p),
        ("starts", c_void_p),
        ("groups", c_int32),
        ("unused", c_int32),
    )


class Library:
    """The loaded kernels. One per process: all callers share the threads and the instruction
    set."""

    def __init__(self, library: ctypes.CDLL) -> None:
        _declare(library)
        self.functions: Any = library
        self.instruction_set = self.use(None)
        fault = library.glm_amx_fault()
        if fault is not None:
            _log.warning(
                "this CPU's AMX is not used: in the self-test %s; %s is used instead",
                *(fault.decode(), self.instruction_set),
            )
        self.weights_memory = WeightsMemory(self.ask_for_huge_pages)

    def use(self, name: str | None) -> str:
        """Select one of build.INSTRUCTION_SETS; None: the best that this CPU has.

        Raises:
            UnavailableError: this CPU does not have it.
        """
        chosen = self.functions.glm_use(None if name is None else name.encode())
        if chosen is None:
            raise UnavailableError(f"this CPU lacks {name or 'AVX2'}")
        self.instruction_set = str(chosen.decode())
        return self.instruction_set

    def leave_out_amx(self) -> None:
        """Use AVX-512 from now on if AMX is in use."""
        if self.instruction_set == "amx":
            self.use("avx512_bf16")

    def set_threads(self, count: int) -> None:
        """Set the number of threads of a call, the calling one included."""
        self.functions.glm_set_threads(count)

    def ask_for_huge_pages(self, memory: torch.Tensor) -> None:
        """Ask for huge pages behind `memory`, before anything is written to it."""
        self.functions.glm_ask_for_large_pages(memory.data_ptr(), memory.nbytes)


@cache
def load() -> Library:
    """Load the library that was compiled when this package was installed.

    Raises:
        UnavailableError: there is none, or this CPU cannot run it.
    """
    if not LIBRARY.exists():
        raise UnavailableError("they were not compiled: glmserve was installed without a compiler")
    try:
        library = ctypes.CDLL(str(LIBRARY))
    except OSError as error:
        raise UnavailableError(f"{LIBRARY.name} cannot be loaded: {error}") from None
    return Library(library)


TYPES = {torch.float32: 0, torch.bfloat16: 1}
"""`enum Type` of src/linear.h."""


def _declare(library: ctypes.CDLL) -> None:
    library.glm_use.argtypes = [c_char_p]
    library.glm_use.restype = c_char_p
    library.glm_amx_fault.argtypes = []
    library.glm_amx_fault.restype = c_char_p
    library.glm_set_threads.argtypes = [c_int]
    library.glm_ask_for_large_pages.argtypes = [c_void_p, c_size_t]
    library.glm_exchange_bytes.argtypes = [c_int]
    library.glm_exchange_bytes.restype = c_size_t
    library.glm_exchange.argtypes = [
        *(c_void_p, c_int, c_int, c_void_p, c_void_p, c_size_t, c_void_p)
    ]
    library.glm_channel_bytes.argtypes = []
    library.glm_channel_bytes.restype = c_size_t
    library.glm_channel_send.argtypes = [c_void_p, c_void_p, c_size_t]
    library.glm_channel_receive.argtypes = [c_void_p, c_void_p, c_size_t]
    library.glm_packed_bytes.argtypes = [c_int32, c_int, c_int, c_int]
    library.glm_packed_bytes.restype = c_size_t
    library.glm_pack.argtypes = [c_int32, c_void_p, c_int, c_int, c_int, c_void_p]
    library.glm_linear.argtypes = [
        *(c_void_p, c_void_p, c_int, c_int32),
        *(c_void_p, c_void_p, c_int32),
    ]
    pointer = c_void_p
    library.glm_most_likely.argtypes = [
        *(pointer, pointer, c_int, c_int32, pointer, pointer, pointer)
    ]
    library.glm_rms_norm.argtypes = [c_int32, *[pointer] * 3, c_float, c_int, c_int, pointer]
    library.glm_silu_and_mul.argtypes = [c_int32, pointer, c_int, c_int, pointer]
    library.glm_gelu.argtypes = [c_int32, pointer, c_int, c_int, pointer]
    library.glm_rope.argtypes = [c_int32, pointer, pointer, *[c_int] * 5]
    library.glm_write.argtypes = [pointer, pointer, pointer, c_int]
    library.glm_attend.argtypes = [pointer, pointer, pointer, c_int, pointer]
    library.glm_add_lora.argtypes = [pointer, pointer, c_int32, pointer, c_int, c_int, pointer]
    library.glm_replay.argtypes = [pointer, c_int]
    library.glm_draw.argtypes = [pointer, c_int, c_int, pointer, pointer]
