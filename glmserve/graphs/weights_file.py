"""The weights of all graphs of a folder, in one file of raw arrays, written one at a time."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Literal

import torch
from torch import Tensor

from glmserve.ops.linear.float8 import Float8Weight
from glmserve.ops.linear.quantized import QuantizedWeight
from glmserve.ops.linear.static import LinearWeight, StaticWeight
from glmserve.runner.dtypes import dtype_name

WEIGHTS_FILE = "weights.bin"

_ALIGNMENT = 4096
"""Arrays begin at memory pages, so that a runtime can map them."""

LinearLayout = Literal["plain", "blocked", "transposed"]
StoredFormat = Literal["float32", "float16", "bfloat16", "int8", "int4", "uint8"]


@dataclass(frozen=True, slots=True)
class StoredArray:
    """An array in the weights file."""

    format: StoredFormat
    """Of a number. Pairs of int4 share a byte, the even one in its low half."""
    shape: tuple[int, ...]
    offset: int
    num_bytes: int


@dataclass(frozen=True, slots=True)
class PlainLinear:
    """A linear weight [N, K], N outputs, of floating point numbers; [K, N] in a transposed file."""

    weight: StoredArray

    @property
    def num_bytes(self) -> int:
        return self.weight.num_bytes


@dataclass(frozen=True, slots=True)
class CodedLinear:
    """A linear weight [N, K] of integer codes: number = code * scale."""

    codes: StoredArray
    """int8 or int4 [N, K]"""
    scales: StoredArray
    """[N, G], for groups of K/G columns; the dtype of the activations."""

    @property
    def num_bytes(self) -> int:
        return self.codes.num_bytes + self.scales.num_bytes


@dataclass(frozen=True, slots=True)
class BlockedLinear:
    """A linear weight [N, K] as onnxruntime's MatMulNBits reads it."""

    codes: StoredArray
    """uint8 [N, blocks, bytes of a block]: codes plus 2^(bits-1), of 4 bits the even one in the low
    half."""
    scales: StoredArray
    """[N, blocks]"""
    bits: int
    columns: int
    block_size: int
    """Columns that share a scale."""

    @property
    def num_bytes(self) -> int:
        return self.codes.num_bytes + self.scales.num_bytes


StoredLinear = PlainLinear | CodedLinear | BlockedLinear
StoredWeights = Mapping[str, StoredArray | StoredLinear]
"""Canonical name to what the graphs read: `X.weight` of a linear module is a StoredLinear."""


class WeightsFile:
    """Appends arrays to a new file.

    Args:
        path: is created.
        scales: dtype of scales.
        layout: plain: weights [N, K], N outputs; blocked: the same, and codes for rounded
            activations are laid out for MatMulNBits; transposed: floating point weights [K, N].
    """

    def __init__(self, path: Path, scales: torch.dtype, layout: LinearLayout) -> None:
        self._file: BinaryIO = path.open("xb")
        self._scales = scales
        self._layout = layout

    def close(self) -> None:
        """No array can be added any more."""
        self._file.close()

    def add(self, array: Tensor, stored: StoredFormat | None = None) -> StoredArray:
        """Append an array.

        Args:
            stored: int4: `array` is int8 [N, K/2] with pairs of codes. None: its dtype.
        """
        self._file.write(bytes(-self._file.tell() % _ALIGNMENT))
        offset = self._file.tell()
        data = array.contiguous().view(-1).view(torch.uint8).numpy()
        self._file.write(data.data)
        shape = tuple(array.shape)
        if stored == "int4":
            shape = (*shape[:-1], 2 * shape[-1])
        name: StoredFormat = stored or dtype_name(array.dtype)  # type: ignore[assignment]
        return StoredArray(name, shape, offset, data.nbytes)

    def pack_linear(self, weight: LinearWeight) -> StoredLinear:
        """Append a linear weight [N, K].

        Raises:
            TypeError: graphs have no operator for the weight.
        """
        if isinstance(weight, StaticWeight):
            raise TypeError("graphs do not round activations by calibrated scales")
        if isinstance(weight, Float8Weight):
            raise TypeError("graphs have no products in float8")
        if isinstance(weight, Tensor):
            return PlainLinear(self.add(weight.t() if self._layout == "transposed" else weight))
        rounds = self._layout == "blocked" and weight.activation_bits is not None
        block_size = _block_size(weight.group_size) if rounds else None
        if block_size is not None:
            return self._add_blocks(weight, block_size)
        codes = weight.codes if weight.bits == 8 else _low_half_first(weight.codes)
        stored = self.add(codes, "int8" if weight.bits == 8 else "int4")
        return CodedLinear(stored, self.add(weight.scales.to(self._scales)))

    def _add_blocks(self, weight: QuantizedWeight, block_size: int) -> BlockedLinear:
        codes = (weight.unpacked().to(torch.int16) + 2 ** (weight.bits - 1)).to(torch.uint8)
        rows, columns = codes.shape
        if weight.bits == 4:
            codes = codes[:, 0::2] | (codes[:, 1::2] << 4)
        per_block = weight.scales.repeat_interleave(weight.group_size // block_size, dim=1)
        return BlockedLinear(
            self.add(codes.view(rows, columns // block_size, -1)),
            self.add(per_block.to(self._scales)),
            weight.bits,
            columns,
            block_size,
        )


def _block_size(group_size: int) -> int | None:
    """The largest block of MatMulNBits that cuts a group of columns into whole blocks, if any.

    Its blocks are powers of two from 16 columns on.
    """
    for size in (128, 64, 32, 16):
        if group_size % size == 0:
            return size
    return None


def _low_half_first(codes: Tensor) -> Tensor:
    """int8 [N, K/2] pairs with the even column in the high half, to pairs with it in the low
    half."""
    return (codes << 4) | ((codes >> 4) & 15)
