"""Host arrays that travel to the device together, to addresses that stay the same."""

from __future__ import annotations

from collections.abc import Mapping
from math import prod
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

_ALIGNMENT = 16
"""Bytes: kernels are compiled for aligned pointers."""

_TORCH_DTYPES = {"int32": torch.int32, "int64": torch.int64}


class ArraySpec(NamedTuple):
    """Shape and dtype of one array."""

    shape: tuple[int, ...]
    dtype: str
    """"int32" or "int64"."""


class StaticArrays:
    """One buffer on the host, one on the device, and views of both by name.

    Args:
        specs: what to lay out.
        device: where the copy lives.
    """

    def __init__(self, specs: Mapping[str, ArraySpec], device: torch.device) -> None:
        offsets, size = {}, 0
        for name, spec in specs.items():
            offsets[name] = size
            num_bytes = prod(spec.shape) * np.dtype(spec.dtype).itemsize
            size += -(-num_bytes // _ALIGNMENT) * _ALIGNMENT
        # Pageable memory: the driver takes its own copy before a transfer returns, so the host's
        # may be filled again at once.
        self._host = torch.zeros(size, dtype=torch.uint8)
        self._device = torch.zeros(size, dtype=torch.uint8, device=device)
        self.host: dict[str, NDArray[Any]] = {}
        """To be filled before `upload`."""
        self.device: dict[str, Tensor] = {}
        """What `upload` fills."""
        for name, spec in specs.items():
            dtype = _TORCH_DTYPES[spec.dtype]
            end = offsets[name] + prod(spec.shape) * dtype.itemsize
            self.host[name] = self._host[offsets[name] : end].view(dtype).view(spec.shape).numpy()
            self.device[name] = self._device[offsets[name] : end].view(dtype).view(spec.shape)

    def upload(self) -> None:
        """Queue one transfer of everything."""
        self._device.copy_(self._host, non_blocking=True)
