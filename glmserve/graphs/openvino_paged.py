"""The graph of a model for OpenVINO's paged attention.

It is written as OpenVINO's tools write models, with K and V as variables: the operation of paged
attention has no form in files. OpenVINO's own transformation puts that in when the graph is loaded,
as for OpenVINO GenAI, and finds the attention by the nodes' order.

S tokens of each of B sequences, V vocabulary, H hidden size. Before the transformation, the graph
has these inputs and outputs:

    input_ids, position_ids, attention_mask     int64 [B, S]
    beam_idx                                    int32 [B]
    sampled_rows, read_rows                     int64 [n], [m]: of the B*S tokens
    logits                                      float32 [n, V], of the sampled rows
    hidden                                      float32 [m, H], last hidden states of the read rows

Inner tensors have the names of runner/tensor_names.py, so that they can be made outputs.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import openvino
from numpy.typing import DTypeLike
from openvino import opset6
from openvino import opset13 as opset

from glmserve.graphs.block import build_hidden
from glmserve.graphs.openvino_builder import OpenVinoBuilder, Value, integers, number
from glmserve.model_config import ModelConfig


def save_paged_graph(builder: OpenVinoBuilder, config: ModelConfig, path: Path) -> None:
    """Write the graph at `path`, and its weights beside it."""
    token_ids, mask, positions = (
        _input(name, 2) for name in ("input_ids", "attention_mask", "position_ids")
    )
    beams = _input("beam_idx", 1, np.int32)
    sampled, read = _input("sampled_rows", 1), _input("read_rows", 1)
    attention = _PagedAttention(builder, config, token_ids, mask, positions, beams)
    flat_ids = opset.reshape(token_ids, integers([-1]), False)
    hidden = build_hidden(builder, attention, config, flat_ids, _name)
    logits = builder.linear(opset.gather(hidden, sampled, integers(0)), "output")
    results = [
        _output("logits", logits),
        _output("hidden", opset.gather(hidden, read, integers(0))),
    ]
    parameters = [token_ids, mask, positions, beams, sampled, read]
    model = openvino.Model(results, attention.assignments, parameters, "glmserve")
    openvino.save_model(model, path, compress_to_fp16=False)


def output_layer(graph: openvino.Model) -> openvino.Model:
    """The output layer of a paged graph as a graph of its own, over the same constants: `hidden`
    [n, H] to `logits` [n, V]."""
    product = graph.output("logits").get_node().input_value(0).get_node()
    weight = product.input_value(1)
    width = product.input_value(0).get_partial_shape()[1].get_length()
    hidden = opset.parameter([-1, width], np.float32, name="hidden")
    result = opset.result(opset.matmul(hidden, weight, False, True))
    return openvino.Model([result], [hidden], "output-layer")


def _name(name: str, value: Value) -> None:
    """Name a tensor, by which it can be made an output."""
    value.output(0).get_tensor().add_names({name})


def _input(name: str, rank: int, dtype: DTypeLike = np.int64) -> Value:
    parameter = opset.parameter([-1] * rank, dtype, name=name)
    parameter.output(0).get_tensor().set_names({name})
    return parameter


def _output(name: str, value: Value) -> Value:
    result = opset.result(value)
    result.output(0).get_tensor().set_names({name})
    return result


class _PagedAttention:
    """Attention over variables of past keys and values, in the form that is known to OpenVINO."""

    def __init__(
        self,
        builder: OpenVinoBuilder,
        config: ModelConfig,
        token_ids: Value,
        mask: Value,
        positions: Value,
        beams: Value,
    ) -> None:
        self._config = config
        self._beams = beams
        self._shape = opset.shape_of(token_ids, "i64")  # [B, S]
        flat = opset.reshape(positions, integers([-1]), False)
        self._rotations = [
            opset.unsqueeze(
                opset.gather(builder.weight(f"rope.{name}"), flat, integers(0)), integers(1)
            )
            for name in ("cosines", "sines")
        ]  # [T, 1, R/2]
        self._mask = opset.unsqueeze(opset.convert(mask, "f32"), integers([1, 2]))
        self.assignments: list[Value] = []

    def attend(self, layer: int, qkv: Value) -> Value:
        config = self._config
        queries, kv_heads = config.num_heads, config.num_kv_heads
        heads = opset.reshape(qkv, integers([0, queries + 2 * kv_heads, config.head_dim]), True)
        counts = integers([queries, kv_heads, kv_heads])
        q, k, v = opset.variadic_split(heads, integers(1), counts).outputs()
        name = f"past_key_values.{layer}"
        keys = self._remember(self._by_head(self._rotate(k), kv_heads), f"{name}.key")
        values = self._remember(self._by_head(v, kv_heads), f"{name}.value")
        attended = opset.scaled_dot_product_attention(
            self._by_head(self._rotate(q), queries),
            self._repeat(keys),
            self._repeat(values),
            self._mask,
            number(config.head_dim**-0.5),
            causal=False,
        )
        by_token = opset.transpose(attended, integers([0, 2, 1, 3]))
        return opset.reshape(by_token, integers([-1, queries * config.head_dim]), False)

    def _rotate(self, heads: Value) -> Value:
        """Rotate [T, heads, D], where the rotated pairs are in two halves (see parameters.py)."""
        half, dim = self._config.rope.dim // 2, self._config.head_dim
        cosines, sines = self._rotations
        sizes = [half, half, dim - 2 * half]
        a, b, rest = opset.variadic_split(heads, integers(-1), integers(sizes)).outputs()
        first = opset.subtract(opset.multiply(a, cosines), opset.multiply(b, sines))
        second = opset.add(opset.multiply(b, cosines), opset.multiply(a, sines))
        return opset.concat([first, second, rest] if sizes[2] else [first, second], -1)

    def _by_head(self, heads: Value, count: int) -> Value:
        """[T, count, D] to [B, count, S, D]."""
        tail = integers([count, self._config.head_dim])
        tokens = opset.reshape(heads, opset.concat([self._shape, tail], 0), False)
        return opset.transpose(tokens, integers([0, 2, 1, 3]))

    def _remember(self, new: Value, name: str) -> Value:
        """Past and new K or V: [B, Hkv, all tokens, D]."""
        kv_heads, dim = self._config.num_kv_heads, self._config.head_dim
        batch = opset.gather(self._shape, integers([0]), integers(0))
        empty = opset.broadcast(number(0.0), opset.concat([batch, integers([kv_heads, 0, dim])], 0))
        shape = openvino.PartialShape([-1, kv_heads, -1, dim])
        past = opset6.read_value(empty, name, openvino.Type.f32, shape)
        whole = opset.concat([opset.gather(past, self._beams, integers(0)), new], 2)
        self.assignments.append(opset6.assign(whole, name))
        return whole

    def _repeat(self, heads: Value) -> Value:
        """[B, Hkv, n, D] to [B, Hq, n, D]: a key/value head for each query head."""
        config = self._config
        groups = config.num_heads // config.num_kv_heads
        if groups == 1:
            return heads
        apart = opset.unsqueeze(heads, integers(2))
        repeated = opset.broadcast(apart, integers([1, 1, groups, 1, 1]), None, "BIDIRECTIONAL")
        return opset.reshape(repeated, integers([0, config.num_heads, -1, config.head_dim]), True)
