"""Arrays that are copied from the host to the device in one transfer."""

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
    """Shape and dtype of one array of StaticArrays."""

    shape: tuple[int, ...]
    dtype: str
    """"int32" or "int64"."""


class StaticArrays:
    """Arrays with addresses that never change, as CUDA graphs require.

    They are views of one buffer on the host and of one on the device.

    Args:
        specs: shape and dtype of each array, by name.
        device: of the copies.
    """

    def __init__(self, specs: Mapping[str, ArraySpec], device: torch.device) -> None:
        offsets, size = {}, 0
        for name, spec in specs.items():
            offsets[name] = size
            num_bytes = prod(spec.shape) * np.dtype(spec.dtype).itemsize
            size += -(-num_bytes // _ALIGNMENT) * _ALIGNMENT
        # Pageable memory: the driver takes its own copy before a transfer returns, so the arrays
        # can be filled again at once.
        self._host = torch.zeros(size, dtype=torch.uint8)
        self._device = torch.zeros(size, dtype=torch.uint8, device=device)
        self.host: dict[str, NDArray[Any]] = {}
        """By name; fill them before `upload`."""
        self.device: dict[str, Tensor] = {}
        """By name; `upload` fills them."""
        for name, spec in specs.items():
            dtype = _TORCH_DTYPES[spec.dtype]
            end = offsets[name] + prod(spec.shape) * dtype.itemsize
            self.host[name] = self._host[offsets[name] : end].view(dtype).view(spec.shape).numpy()
            self.device[name] = self._device[offsets[name] : end].view(dtype).view(spec.shape)

    def upload(self) -> None:
        """Queue one transfer of all arrays."""
        self._device.copy_(self._host, non_blocking=True)


def upload_together(arrays: Mapping[str, NDArray[Any]], device: torch.device) -> dict[str, Tensor]:
    """Copy arrays to the device in one transfer.

    Returns:
        Tensors of the same names, shapes and dtypes: views of one buffer.
    """
    ends = np.cumsum([-(-a.nbytes // _ALIGNMENT) * _ALIGNMENT for a in arrays.values()]).tolist()
    # Pageable memory: the driver takes its own copy before a transfer returns.
    host = np.empty(ends[-1], dtype=np.uint8)
    starts = dict(zip(arrays, [0, *ends], strict=False))
    for name, array in arrays.items():
        part = host[starts[name] : starts[name] + array.nbytes]
        part.view(array.dtype).reshape(array.shape)[...] = array
    device_buffer = torch.from_numpy(host).to(device, non_blocking=True)
    return {
        name: device_buffer[starts[name] : starts[name] + array.nbytes]
        .view(torch.from_numpy(array[:0]).dtype)
        .view(array.shape)
        for name, array in arrays.items()
    }
