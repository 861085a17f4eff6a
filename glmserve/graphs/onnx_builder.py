"""Emits a model's operations as ONNX nodes; weights are references into the weights file."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import NodeProto, TensorProto, ValueInfoProto, helper, numpy_helper

from glmserve.graphs.onnx_dialect import NEWEST, OnnxDialect
from glmserve.graphs.weights_file import (
    WEIGHTS_FILE,
    BlockedLinear,
    CodedLinear,
    PlainLinear,
    StoredArray,
    StoredLinear,
    StoredWeights,
)

_AXES_ARE_INPUTS = 18  # opset since which ReduceMean has them so, and Split a number of outputs
_MICROSOFT = "com.microsoft"
_VASTAI = "Vastai"

_TYPES: dict[str, int] = {
    "float32": TensorProto.FLOAT,
    "float16": TensorProto.FLOAT16,
    "bfloat16": TensorProto.BFLOAT16,
    "int8": TensorProto.INT8,
    "int4": TensorProto.INT4,
    "uint8": TensorProto.UINT8,
    "int64": TensorProto.INT64,
}

Shape = Sequence[int]


class OnnxBuilder:
    """One graph under construction. Values are names of tensors.

    Args:
        weights: places of the parameters in the weights file.
        dtype: name of the activations' dtype.
        rounds_activations: MatMulNBits may round its inputs to 8 bits, block by block.
        dialect: what the reader of the graph knows.
    """

    def __init__(
        self,
        weights: StoredWeights,
        dtype: str,
        *,
        rounds_activations: bool = False,
        dialect: OnnxDialect = NEWEST,
    ) -> None:
        self.dtype = dtype
        self._dialect = dialect
        self._weights = weights
        self._accuracy_level = 4 if rounds_activations else 1
        self._nodes: list[NodeProto] = []
        self._initializers: dict[str, TensorProto] = {}
        self._inputs: list[ValueInfoProto] = []
        self._outputs: list[ValueInfoProto] = []
        self._count = 0

    # --- the operations of GraphBuilder ---------------------------------------------------------

    def embedding(self, token_ids: str) -> str:
        return self.node("Gather", self.weight("embedding.weight"), token_ids, axis=0)

    def linear(self, x: str, module: str) -> str:
        stored = self._linear(module)
        bias = self.bias(module)
        if isinstance(stored, BlockedLinear):
            return self._blocked_linear(x, module, stored, bias)
        if isinstance(stored, CodedLinear) and self._dialect.has_vastai_operators:
            product = self._per_channel_linear(x, module, stored)
            return self.add(product, bias) if bias else product
        if isinstance(stored, PlainLinear):
            weight = self.plain_weight(module)
        else:
            weight = self._dequantized(module, stored)
        return self.node("Gemm", x, weight, *([bias] if bias else []), transB=1)

    def rms_norm(self, x: str, module: str, eps: float) -> str:
        exact = self.cast(x, "float32")
        squares = self.node("Pow", exact, self.number(2.0))
        mean = self.mean(squares)
        root = self.node("Sqrt", self.node("Add", mean, self.number(eps)))
        normed = self.node("Div", exact, root)
        weight = self.cast(self.weight(f"{module}.weight"), "float32")
        return self.cast(self.node("Mul", normed, weight), self.dtype)

    def layer_norm(self, x: str, module: str, eps: float) -> str:
        parts = [
            self.cast(self.weight(f"{module}.{kind}"), "float32") for kind in ("weight", "bias")
        ]
        exact = self.cast(x, "float32")
        normed = self.node("LayerNormalization", exact, *parts, axis=-1, epsilon=eps)
        return self.cast(normed, self.dtype)

    def silu_and_mul(self, x: str) -> str:
        gate, up = self.halves(x)
        return self.node("Mul", self.node("Mul", gate, self.node("Sigmoid", gate)), up)

    def add(self, a: str, b: str) -> str:
        return self.node("Add", a, b)

    # --- parts of any graph ---------------------------------------------------------------------

    def input(self, name: str, dtype: str, shape: Shape) -> str:
        """An input of the graph."""
        self._inputs.append(helper.make_tensor_value_info(name, _TYPES[dtype], shape))
        return name

    def output(self, name: str, value: str, dtype: str, shape: Shape) -> None:
        """Make a value an output of the graph."""
        self._nodes.append(helper.make_node("Identity", [value], [name]))
        self._outputs.append(helper.make_tensor_value_info(name, _TYPES[dtype], shape))

    def node(self, operator: str, *inputs: str, **attributes: Any) -> str:
        """The output of a new node."""
        return self.nodes(operator, 1, *inputs, **attributes)[0]

    def nodes(self, operator: str, count: int, *inputs: str, **attributes: Any) -> list[str]:
        """The `count` outputs of a new node."""
        outputs = [f"{operator}_{self._count + i}" for i in range(count)]
        self._count += count
        self._nodes.append(helper.make_node(operator, inputs, outputs, **attributes))
        return outputs

    def cast(self, x: str, dtype: str) -> str:
        """x in another dtype. Without effect in a graph of float32 only."""
        if dtype == self.dtype == "float32":
            return x
        return self.node("Cast", x, to=_TYPES[dtype])

    def mean(self, x: str) -> str:
        """The mean over the last axis, which stays with one number."""
        if self._dialect.opset < _AXES_ARE_INPUTS:
            return self.node("ReduceMean", x, axes=[-1], keepdims=1)
        return self.node("ReduceMean", x, self.integers([-1]), keepdims=1)

    def halves(self, x: str) -> list[str]:
        """The two halves of the last axis."""
        if self._dialect.opset < _AXES_ARE_INPUTS:
            return self.nodes("Split", 2, x, axis=-1)
        return self.nodes("Split", 2, x, axis=-1, num_outputs=2)

    def reshape(self, x: str, shape: Shape) -> str:
        """x in another shape."""
        return self.node("Reshape", x, self.integers(shape))

    def weight(self, name: str) -> str:
        """A parameter that is no linear weight."""
        stored = self._weights[name]
        assert isinstance(stored, StoredArray)
        return self._reference(name, stored)

    def plain_weight(self, module: str) -> str:
        """The floating point weight of a linear module, as it is stored."""
        stored = self._linear(module)
        assert isinstance(stored, PlainLinear)
        return self._reference(f"{module}.weight", stored.weight)

    def bias(self, module: str) -> str | None:
        """The bias of a linear module, if it has one."""
        name = f"{module}.bias"
        return self.weight(name) if name in self._weights else None

    def integers(self, values: Sequence[int]) -> str:
        """A constant int64 [n]."""
        name = "i" + "_".join(map(str, values))
        return self.constant(name, np.array(values, dtype=np.int64))

    def number(self, value: float) -> str:
        """A constant float32 scalar."""
        return self.constant(f"f{value!r}", np.array(value, dtype=np.float32))

    def constant(self, name: str, value: NDArray[Any]) -> str:
        """A small constant within the graph's own file. The same name is the same constant."""
        if name not in self._initializers:
            self._initializers[name] = numpy_helper.from_array(value, name)
        return name

    def save(self, path: Path, name: str) -> None:
        """Write the graph; the weights file must be in the same folder when it is read."""
        graph = helper.make_graph(
            self._nodes, name, self._inputs, self._outputs, list(self._initializers.values())
        )
        opsets = [helper.make_opsetid("", self._dialect.opset)]
        domains = {node.domain for node in self._nodes}
        opsets += [helper.make_opsetid(domain, 1) for domain in sorted(domains - {""})]
        version = self._dialect.ir_version
        model = helper.make_model(graph, opset_imports=opsets, ir_version=version)
        model.producer_name = "glmserve"
        onnx.save_model(model, path)

    def _linear(self, module: str) -> StoredLinear:
        stored = self._weights[f"{module}.weight"]
        assert not isinstance(stored, StoredArray)
        return stored

    def _reference(self, name: str, stored: StoredArray) -> str:
        """An initializer that lies in the weights file."""
        if name in self._initializers:
            return name
        tensor = TensorProto(name=name, data_type=_TYPES[stored.format], dims=stored.shape)
        tensor.data_location = TensorProto.EXTERNAL
        place = {
            "location": WEIGHTS_FILE,
            "offset": str(stored.offset),
            "length": str(stored.num_bytes),
        }
        for key, value in place.items():
            tensor.external_data.add(key=key, value=value)
        self._initializers[name] = tensor
        return name

    def _dequantized(self, module: str, stored: CodedLinear) -> str:
        """The weight [N, K] by DequantizeLinear."""
        codes = self._reference(f"{module}.codes", stored.codes)
        scales = self._reference(f"{module}.scales", stored.scales)
        rows, groups = stored.scales.shape
        if groups == 1:
            scales = self.reshape(scales, [rows])
            return self.node("DequantizeLinear", codes, scales, axis=0)
        size = stored.codes.shape[1] // groups
        return self.node("DequantizeLinear", codes, scales, axis=1, block_size=size)

    def _per_channel_linear(self, x: str, module: str, stored: CodedLinear) -> str:
        """x @ (codes * scales)^T, by the operator of the vendor Vastai: int8 codes [N, K], and a
        scale for each row [N]. Source: llm/chatglm2/README.md in github.com/Vastai/VastModelZOO."""
        rows, groups = stored.scales.shape
        assert groups == 1
        codes = self._reference(f"{module}.codes", stored.codes)
        scales = self._reference(f"{module}.scales", replace(stored.scales, shape=(rows,)))
        return self.node("QuantizedLinearPerChannel", x, codes, scales, domain=_VASTAI)

    def _blocked_linear(self, x: str, module: str, stored: BlockedLinear, bias: str | None) -> str:
        codes = self._reference(f"{module}.codes", stored.codes)
        scales = self._reference(f"{module}.scales", stored.scales)
        inputs = [x, codes, scales, *(["", "", bias] if bias else [])]
        return self.node(
            "MatMulNBits",
            *inputs,
            domain=_MICROSOFT,
            K=stored.columns,
            N=stored.codes.shape[0],
            bits=stored.bits,
            block_size=stored.block_size,
            accuracy_level=self._accuracy_level,
        )
