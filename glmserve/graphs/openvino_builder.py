"""Emits a model's operations as OpenVINO nodes; weights are constants in the mapped file."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import openvino
from numpy.typing import DTypeLike
from openvino import opset13 as opset
from openvino.op import Constant

from glmserve.graphs.weights_file import (
    CodedLinear,
    PlainLinear,
    StoredArray,
    StoredLinear,
    StoredWeights,
)

_TYPES = {
    "float32": openvino.Type.f32,
    "float16": openvino.Type.f16,
    "bfloat16": openvino.Type.bf16,
    "int8": openvino.Type.i8,
    "int4": openvino.Type.i4,
}
_ELEMENTS: dict[str, DTypeLike] = {
    "float32": np.float32,
    "float16": np.float16,
    "bfloat16": np.uint16,
    "int8": np.int8,
    "int4": np.uint8,
}
"""What numpy maps; of an int4 a pair."""

Value = Any
"""An output of a node."""


class OpenVinoBuilder:
    """One graph under construction. Activations are float32 in it; the device may compute in less.

    Args:
        weights: places of the parameters in the weights file.
        path: of the weights file.
    """

    def __init__(self, weights: StoredWeights, path: Path) -> None:
        self._weights = weights
        self._file = np.memmap(path, np.uint8, "r")

    # --- the operations of GraphBuilder ---------------------------------------------------------

    def embedding(self, token_ids: Value) -> Value:
        return opset.gather(self.weight("embedding.weight"), token_ids, integers(0))

    def linear(self, x: Value, module: str) -> Value:
        stored = self._weights[f"{module}.weight"]
        product = opset.matmul(x, self._linear(stored), False, True)
        if f"{module}.bias" not in self._weights:
            return product
        return opset.add(product, self.weight(f"{module}.bias"))

    def rms_norm(self, x: Value, module: str, eps: float) -> Value:
        squares = opset.power(x, number(2.0))
        mean = opset.reduce_mean(squares, integers([-1]), True)
        root = opset.sqrt(opset.add(mean, number(eps)))
        normed = opset.multiply(x, opset.divide(number(1.0), root))
        return opset.multiply(normed, self.weight(f"{module}.weight"))

    def layer_norm(self, x: Value, module: str, eps: float) -> Value:
        normed = opset.mvn(x, integers([-1]), True, eps, "INSIDE_SQRT")
        scaled = opset.multiply(normed, self.weight(f"{module}.weight"))
        return opset.add(scaled, self.weight(f"{module}.bias"))

    def silu_and_mul(self, x: Value) -> Value:
        gate, up = opset.split(x, integers(-1), 2).outputs()
        return opset.multiply(opset.swish(gate), up)

    def add(self, a: Value, b: Value) -> Value:
        return opset.add(a, b)

    # --- parts of any graph ---------------------------------------------------------------------

    def weight(self, name: str) -> Value:
        """A parameter that is no linear weight, as float32."""
        stored = self._weights[name]
        assert isinstance(stored, StoredArray)
        return self._floats(stored)

    def _linear(self, stored: StoredArray | StoredLinear) -> Value:
        """The weight [N, K]. The device keeps codes as they are if it can multiply with them."""
        if isinstance(stored, PlainLinear):
            return self._floats(stored.weight)
        assert isinstance(stored, CodedLinear)
        codes, scales = stored.codes, stored.scales
        rows, columns = codes.shape
        groups = scales.shape[1]
        shape = [rows, columns] if groups == 1 else [rows, groups, columns // groups]
        scale_shape = [*shape[:-1], 1]
        # The order of nodes by which OpenVINO recognises compressed weights.
        numbers = opset.convert(self._constant(codes, shape), "f16")
        scaled = opset.multiply(numbers, opset.convert(self._constant(scales, scale_shape), "f16"))
        if groups > 1:
            scaled = opset.reshape(scaled, integers([rows, columns]), False)
        return opset.convert(scaled, "f32")

    def _floats(self, stored: StoredArray) -> Value:
        constant = self._constant(stored, stored.shape)
        return constant if stored.format == "float32" else opset.convert(constant, "f32")

    def _constant(self, stored: StoredArray, shape: Sequence[int]) -> Value:
        data = self._file[stored.offset : stored.offset + stored.num_bytes]
        array = data.view(_ELEMENTS[stored.format])
        tensor = openvino.Tensor(array, openvino.Shape(list(shape)), _TYPES[stored.format])
        return Constant(tensor, shared_memory=True)


def integers(values: int | Sequence[int]) -> Value:
    """A constant int64, a scalar or [n]."""
    return opset.constant(np.array(values, dtype=np.int64))


def number(value: float) -> Value:
    """A constant float32 scalar."""
    return opset.constant(np.array(value, dtype=np.float32))
