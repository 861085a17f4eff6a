"""Arrays that are copied from the host to the device in one transfer."""

from __future__ import annotations

from collections.abc import Mapping
from math import prod
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from glmserve.ops.uploads import Uploads, torch_dtype

_ALIGNMENT = 16
"""Bytes: kernels are compiled for aligned pointers."""

HostArrays = Mapping[str, NDArray[Any]]
"""Arrays on the host, by name."""


class ArraySpec(NamedTuple):
    """Shape and dtype of an array."""

    shape: tuple[int, ...]
    dtype: str
    """"int32" or "int64"."""

    @property
    def num_bytes(self) -> int:
        """Bytes of the array, padding behind it included."""
        exact = prod(self.shape) * np.dtype(self.dtype).itemsize
        return -(-exact // _ALIGNMENT) * _ALIGNMENT


def packed_bytes(specs: Mapping[str, ArraySpec]) -> int:
    """Bytes of a buffer for these arrays."""
    return sum(spec.num_bytes for spec in specs.values())


class StaticArrays:
    """Arrays with addresses that never change, as CUDA graphs require.

    They are views of one buffer on the host and of one on the device.

    Args:
        specs: shape and dtype of each array, by name.
        device_buffer: uint8, at least `packed_bytes(specs)`; others may use it at other times.
    """

    def __init__(
        self, specs: Mapping[str, ArraySpec], uploads: Uploads, device_buffer: Tensor
    ) -> None:
        size = packed_bytes(specs)
        self._uploads = uploads
        self._host = np.zeros(size, dtype=np.uint8)
        self._device = device_buffer[:size]
        self.host: dict[str, NDArray[Any]] = {}
        """By name; fill them before `upload`."""
        self.device: dict[str, Tensor] = {}
        """By name; `upload` fills them."""
        first = 0
        for name, (shape, dtype) in specs.items():
            end = first + prod(shape) * np.dtype(dtype).itemsize
            self.host[name] = self._host[first:end].view(dtype).reshape(shape)
            self.device[name] = (
                self._device[first:end].view(torch_dtype(np.dtype(dtype))).view(shape)
            )
            first += specs[name].num_bytes

    def upload(self) -> None:
        """Queue one transfer of all arrays. They may be filled again at once."""
        self._uploads.copy(self._host, self._device)


def upload_together(arrays: HostArrays, uploads: Uploads) -> dict[str, Tensor]:
    """Copy arrays to the device in one transfer.

    Returns:
        Tensors of the same names, shapes and dtypes: views of one buffer.
    """
    sizes = [-(-array.nbytes // _ALIGNMENT) * _ALIGNMENT for array in arrays.values()]
    host = np.empty(sum(sizes), dtype=np.uint8)
    first = 0
    for array, size in zip(arrays.values(), sizes, strict=True):
        part = host[first : first + array.nbytes]
        part.view(array.dtype).reshape(array.shape)[...] = array
        first += size
    parts = torch.split(uploads.send(host), sizes)
    return {
        name: _typed(part, array) for (name, array), part in zip(arrays.items(), parts, strict=True)
    }


def _typed(part: Tensor, array: NDArray[Any]) -> Tensor:
    """The bytes of an array in its dtype and shape; without calls of torch that change nothing."""
    if len(part) != array.nbytes:
        part = part[: array.nbytes]
    numbers = part.view(torch_dtype(array.dtype))
    return numbers if array.ndim == 1 else numbers.view(array.shape)
