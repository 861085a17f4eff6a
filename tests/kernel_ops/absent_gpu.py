"""A GPU that is not there, for Triton: kernels are specialised for it, and launches do nothing."""

from __future__ import annotations

import contextlib
import itertools
import os
from collections.abc import Iterator
from typing import Any

import torch
from triton.backends.compiler import GPUTarget
from triton.runtime import driver
from triton.runtime.jit import JITFunction


class AbsentDevice:
    """As much of a Triton driver as compiling needs."""

    def __init__(self, target: GPUTarget, number: int = 0) -> None:
        self._target = target
        self._key = f"{target} {number}"

    def get_current_device(self) -> str:
        return self._key  # of the caches of compiled kernels

    def get_current_stream(self, _device: object) -> int:
        return 0

    def get_current_target(self) -> GPUTarget:
        return self._target

    def get_active_torch_device(self) -> torch.device:
        return torch.device("meta")

    def is_active(self) -> bool:
        return True


class _Uncompiled:
    """Stands for a compiled kernel."""

    function = None
    packed_metadata = None

    def launch_metadata(self, *_: Any) -> None:
        """There is none."""

    def run(self, *_: Any) -> None:
        """Launches nothing."""


_NUMBERS = itertools.count(1)
"""Of devices: each has compiled nothing yet."""


@contextlib.contextmanager
def launching_nothing(target: GPUTarget) -> Iterator[list[str]]:
    """Launches end where a GPU's driver would be called, and nothing is compiled. New tensors are
    0, because no kernel writes them.

    Yields:
        A list that each new specialisation of a kernel is added to: on a GPU it would be compiled.
    """
    specialised: list[str] = []
    compile_kernel, empty = JITFunction._do_compile, torch.empty
    # Also Triton's default; said aloud because another one is announced for Triton 3.10.
    os.environ.setdefault("TRITON_DEFAULT_FP_FUSION", "1")

    def note(self: Any, key: Any, _signature: Any, device: Any, *_: Any) -> _Uncompiled:
        specialised.append(f"{self.fn.__name__} {key}")
        kernel = self.device_caches[device][0][key] = _Uncompiled()
        return kernel

    def zeros(*shape: Any, **options: Any) -> torch.Tensor:
        return empty(*shape, **options).zero_()

    driver.set_active(AbsentDevice(target, next(_NUMBERS)))
    JITFunction._do_compile, torch.empty = note, zeros
    try:
        yield specialised
    finally:
        JITFunction._do_compile, torch.empty = compile_kernel, empty
