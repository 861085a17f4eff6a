"""Products with packed weights; src/linear.cpp has the layout and the arithmetic.

The result for a row does not depend on the other rows. Integer weights are exact, and so are sums
within a group of columns. Activations are rounded to `activation_bits`, with one scale per group.
8 bits are those of W8A8 and W4A8, 15 are more than bfloat16 has, and 22 leave an error of some
4e-7, about that of float32.
"""

from __future__ import annotations

import ctypes
from enum import IntEnum
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from numpy.typing import NDArray
from torch import Tensor

from glmserve_cpu_kernels.library import TYPES, CLinear, Library

ActivationBits = Literal[8, 15, 22]

PANEL = 32
"""Outputs that are packed together."""

_LIMBS: dict[ActivationBits, int] = {8: 1, 15: 2, 22: 3}
_GROUP = 128


class _Format(IntEnum):
    FLOAT32 = 0
    BFLOAT16 = 1
    INT8 = 2
    INT4 = 3


class PackedLinear:
    """A weight [N, K] in the kernels' layout, from `pack_floats` or `pack_codes`."""

    def __init__(
        self,
        library: Library,
        form: _Format,
        weight: Tensor,
        shape: tuple[int, int],
        *,
        group: int = 0,
        limbs: int = 0,
        scales: Tensor | None = None,
    ) -> None:
        outputs, inputs = shape
        functions = library.functions
        self._library = library
        self._outputs = outputs
        num_bytes = functions.glm_packed_bytes(form, outputs, inputs, group)
        self._weights = library.weights_memory.take(num_bytes)
        weight = weight.contiguous()
        functions.glm_pack(
            form, weight.data_ptr(), outputs, inputs, group, self._weights.data_ptr()
        )
        weight_groups = 1 if scales is None else scales.shape[1]
        self._scales = scales if scales is None else _packed_scales(scales)
        pointer = None if self._scales is None else self._scales.data_ptr()
        self._struct = CLinear(
            *(form, outputs, inputs, group, weight_groups, limbs, self._weights.data_ptr()),
            scales=pointer if weight_groups == 1 else None,
            group_scales=pointer if weight_groups > 1 else None,
        )
        self._address = ctypes.addressof(self._struct)

    def __call__(self, x: Tensor, bias: Tensor | None = None) -> Tensor:
        """x [T, K] to [T, N], both float32 or both bfloat16; a bias [N] is of that dtype too."""
        return self._multiply(x, bias, x.dtype)

    def widened(self, x: Tensor) -> Tensor:
        """As a call: x [T, K] to the same numbers [T, N], but as float32."""
        return self._multiply(x, None, torch.float32)

    def most_likely(
        self, x: Tensor, allowed: NDArray[np.uint32]
    ) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
        """The greatest of the allowed outputs of each row, without storing the others.

        Args:
            x: [T, K], float32 or bfloat16.
            allowed: [panels], a bit for each output, the lowest first, and 0 behind the last.

        Returns:
            Indices [T], of equal outputs the lowest, and outputs [T]. A row that holds a NaN among
            the allowed outputs, or that allows none, has a NaN as output.
        """
        x = x.contiguous()
        indices = np.empty(len(x), dtype=np.int32)
        values = np.empty(len(x), dtype=np.float32)
        self._library.functions.glm_most_likely(
            *(self._address, x.data_ptr(), len(x), TYPES[x.dtype]),
            *(array.ctypes.data for array in (allowed, indices, values)),
        )
        return indices, values

    def _multiply(self, x: Tensor, bias: Tensor | None, dtype: torch.dtype) -> Tensor:
        x = x.contiguous()
        rows = x.shape[0]
        y = torch.empty((rows, self._outputs), dtype=dtype)
        self._library.functions.glm_linear(
            self._address,
            x.data_ptr(),
            rows,
            TYPES[x.dtype],
            None if bias is None else bias.data_ptr(),
            y.data_ptr(),
            TYPES[dtype],
        )
        return y


def pack_floats(library: Library, weight: Tensor) -> PackedLinear:
    """Pack a weight [N, K] of float32, or of bfloat16 with K even; activations have the same
    dtype."""
    form = _Format.FLOAT32 if weight.dtype == torch.float32 else _Format.BFLOAT16
    return PackedLinear(library, form, weight, (weight.shape[0], weight.shape[1]))


def pack_codes(
    library: Library, codes: Tensor, scales: Tensor, bits: int, activation_bits: ActivationBits
) -> PackedLinear:
    """Pack a weight of 8-bit or 4-bit codes.

    Args:
        codes: int8 [N, K]; or [N, K/2] pairs of 4 bits, the even column in the high half.
        scales: [N, G], one for each row and each of G equal groups of columns. With more than
            one group they are stored as float16.

    Raises:
        ValueError: the kernels do not support this number of scales.
    """
    columns = codes.shape[1] * 8 // bits
    group = activation_group(columns, scales.shape[1], bits)
    if group is None:
        raise ValueError(f"no kernel for {scales.shape[1]} scales over {columns} columns")
    form = _Format.INT8 if bits == 8 else _Format.INT4
    limbs = _LIMBS[activation_bits]
    shape = (codes.shape[0], columns)
    return PackedLinear(library, form, codes, shape, group=group, limbs=limbs, scales=scales)


def activation_group(columns: int, weight_groups: int, bits: int) -> int | None:
    """Columns of activations that share a scale; None: the kernels do not support this weight."""
    multiple = 32 // bits  # of columns, in one step of a panel
    if weight_groups == 1:
        return min(_GROUP, -(-columns // multiple) * multiple)
    of_weight = columns // weight_groups
    fitting = (size for size in range(_GROUP, 0, -multiple) if of_weight % size == 0)
    return next(fitting, None)


def _packed_scales(scales: Tensor) -> Tensor:
    """Scales [N, G] in the layout of the kernels, N padded to whole panels."""
    padded = F.pad(scales, (0, 0, 0, -len(scales) % PANEL))
    if scales.shape[1] == 1:
        return padded[:, 0].float().contiguous()
    return padded.half().view(-1, PANEL, scales.shape[1]).transpose(1, 2).contiguous()
