"""Many small arrays to the device in one transfer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

_ALIGNMENT = 16
"""Bytes: kernels are compiled for aligned pointers."""


def upload_together(arrays: Mapping[str, NDArray[Any]], device: torch.device) -> dict[str, Tensor]:
    """Tensors of the same names, shapes and dtypes; views of one buffer."""
    ends = np.cumsum([-(-a.nbytes // _ALIGNMENT) * _ALIGNMENT for a in arrays.values()]).tolist()
    # Not zeroed. In pageable memory: the driver takes its own copy before a transfer returns.
    host = np.empty(ends[-1], dtype=np.uint8)
    starts = dict(zip(arrays, [0, *ends], strict=False))
    for name, array in arrays.items():
        place = host[starts[name] : starts[name] + array.nbytes]
        place.view(array.dtype).reshape(array.shape)[...] = array
    there = torch.from_numpy(host).to(device, non_blocking=True)
    return {
        name: there[starts[name] : starts[name] + array.nbytes]
        .view(torch.from_numpy(array[:0]).dtype)
        .view(array.shape)
        for name, array in arrays.items()
    }
