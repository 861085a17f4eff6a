"""The static graphs of a model over lanes, as ONNX.

A lane holds K and V of one sequence of up to L tokens. A graph reads the lanes' caches and returns
the new tokens' K and V, which the runner writes into them. So no cache is copied in a step.

B lanes, N new tokens each, T = B*N, L total length, R output rows, H hidden size, V vocabulary,
Hkv key/value heads, G query heads for each of them, D head dim. Inputs and outputs:

    input_ids       int64 [B, N]
    past_lengths    int64 [B]                  tokens of each lane in its cache
    last            int64 [1]                  base graph: the row of the logits
    keys.i          [B, Hkv, D, L]             cache of layer i
    values.i        [B, Hkv, L, D]
    logits          float32 [R, V]             of the last row; of one row for each lane
    hidden          float32 [T, H]             last hidden states
    new_keys        [layers, B, Hkv, D, N]
    new_values      [layers, B, Hkv, N, D]

If the layers are split, each part has the caches and new K and V of its own layers. The first part
alone has input_ids, and the last alone `last`, logits and hidden. Between them goes the residual
stream: stream_out [T, H] of a part is stream_in of the next.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from glmserve.graphs.block import build_final_norm, build_hidden, build_layers
from glmserve.graphs.lane_shape import LaneShape
from glmserve.graphs.onnx_builder import OnnxBuilder
from glmserve.model_config import ModelConfig
from glmserve.runner.tensor_names import tensor_widths

_LOWEST = -3.0e38
"""Score of a slot that is not visible, in float32: its probability is 0."""


def save_lane_graph(
    builder: OnnxBuilder, config: ModelConfig, shape: LaneShape, layers: range, path: Path
) -> None:
    """Write the graph of some layers, for `shape.lanes` lanes and `shape.tokens` new tokens of
    each."""
    width = [shape.lanes * shape.tokens, config.hidden_size]
    if layers.start == 0:
        token_ids = builder.input("input_ids", "int64", [shape.lanes, shape.tokens])
        stream = builder.embedding(builder.reshape(token_ids, [-1]))
    else:
        stream = builder.input("stream_in", builder.dtype, width)
    attention = _LaneAttention(builder, config, shape)
    stream = build_layers(builder, attention, config, stream, layers)
    if layers.stop < config.num_layers:
        builder.output("stream_out", stream, builder.dtype, width)
    else:
        _add_results(builder, config, shape, stream)
    attention.add_outputs()
    builder.save(path, path.stem)


def save_inspection_graph(
    builder: OnnxBuilder, config: ModelConfig, shape: LaneShape, path: Path
) -> None:
    """Write the base graph with every tensor as a float32 output of its name, see
    runner/tensor_names.py. `logits` are those of all tokens."""
    tokens = shape.lanes * shape.tokens
    widths = tensor_widths(config)

    def watch(name: str, value: str) -> None:
        width = widths[name.rpartition(".")[2]]
        builder.output(name, builder.cast(value, "float32"), "float32", [tokens, width])

    token_ids = builder.input("input_ids", "int64", [shape.lanes, shape.tokens])
    flat_ids = builder.reshape(token_ids, [-1])
    attention = _LaneAttention(builder, config, shape)
    hidden = build_hidden(builder, attention, config, flat_ids, watch)
    watch("logits", builder.linear(hidden, "output"))
    attention.add_outputs()
    builder.save(path, path.stem)


def _add_results(builder: OnnxBuilder, config: ModelConfig, shape: LaneShape, stream: str) -> None:
    """The outputs of the last part: logits and hidden states."""
    hidden = rows = build_final_norm(builder, config, stream)
    if shape.tokens > 1:
        last = builder.input("last", "int64", [1])
        rows = builder.node("Gather", hidden, last, axis=0)
    logits = builder.cast(builder.linear(rows, "output"), "float32")
    builder.output("logits", logits, "float32", [shape.lanes, config.vocab_size])
    exact = builder.cast(hidden, "float32")
    width = [shape.lanes * shape.tokens, config.hidden_size]
    builder.output("hidden", exact, "float32", width)


def save_head_graph(builder: OnnxBuilder, config: ModelConfig, rows: int, path: Path) -> None:
    """Write the graph of the output layer alone: `hidden` float32 [rows, H] to `logits`."""
    hidden = builder.input("hidden", "float32", [rows, config.hidden_size])
    logits = builder.linear(builder.cast(hidden, builder.dtype), "output")
    exact = builder.cast(logits, "float32")
    builder.output("logits", exact, "float32", [rows, config.vocab_size])
    builder.save(path, path.stem)


class _Part(NamedTuple):
    """Some keys and values to attend to."""

    keys: str
    """[B or 1, Hkv, D, length]"""
    values: str
    """[B or 1, Hkv, length, D]"""
    visible: str | None
    """bool, broadcast to [B, Hkv, N*G, length]; None: all."""
    length: int


class _LaneAttention:
    """Attention to a lane's cache and to the new tokens, by a product each: nothing is copied."""

    def __init__(self, builder: OnnxBuilder, config: ModelConfig, shape: LaneShape) -> None:
        self._builder = builder
        self._config = config
        self._shape = shape
        self._groups = config.num_heads // config.num_kv_heads
        self._new_keys: list[str] = []
        self._new_values: list[str] = []
        past_lengths = builder.input("past_lengths", "int64", [shape.lanes])
        self._past_visible = self._see_past(past_lengths)
        self._lowest = builder.constant("lowest", np.array(_LOWEST, dtype=np.float32))
        self._rotations = self._rotation_rows(past_lengths)

    def attend(self, layer: int, qkv: str) -> str:
        builder, config, shape = self._builder, self._config, self._shape
        kv_heads, dim, lanes = config.num_kv_heads, config.head_dim, shape.lanes
        heads = builder.reshape(qkv, [lanes * shape.tokens, -1, dim])
        counts = builder.integers([config.num_heads + kv_heads, kv_heads])
        turning, values = builder.nodes("Split", 2, heads, counts, axis=1)
        counts = builder.integers([config.num_heads, kv_heads])
        queries, keys = builder.nodes("Split", 2, self._rotate(turning), counts, axis=1)
        new_keys = self._by_head(keys, [0, 2, 3, 1])  # [B, Hkv, D, N]
        new_values = self._by_head(values, [0, 2, 1, 3])  # [B, Hkv, N, D]
        self._new_keys.append(new_keys)
        self._new_values.append(new_values)
        past_keys = builder.input(
            f"keys.{layer}", builder.dtype, [lanes, kv_heads, dim, shape.total_len]
        )
        past_values = builder.input(
            f"values.{layer}", builder.dtype, [lanes, kv_heads, shape.total_len, dim]
        )
        parts = [
            *self._prefix(layer),
            _Part(past_keys, past_values, self._past_visible, shape.total_len),
            _Part(new_keys, new_values, self._see_new(), shape.tokens),
        ]
        return self._join(self._weigh(self._group(queries), parts))

    def add_outputs(self) -> None:
        """Make K and V of the new tokens outputs of the graph."""
        shape, config = self._shape, self._config
        lead = [len(self._new_keys), shape.lanes, config.num_kv_heads]
        self._stack("new_keys", self._new_keys, [*lead, config.head_dim, shape.tokens])
        self._stack("new_values", self._new_values, [*lead, shape.tokens, config.head_dim])

    def _stack(self, name: str, layers: list[str], shape: list[int]) -> None:
        builder = self._builder
        whole = builder.node("Concat", *layers, axis=0)
        builder.output(name, builder.reshape(whole, shape), builder.dtype, shape)

    def _see_past(self, past_lengths: str) -> str:
        """bool [B, 1, 1, L]: whether a slot of a lane's cache is filled."""
        builder = self._builder
        slots = builder.constant("slots", np.arange(self._shape.total_len)[None, None, None])
        lengths = builder.reshape(past_lengths, [self._shape.lanes, 1, 1, 1])
        return builder.node("Less", slots, lengths)

    def _rotation_rows(self, past_lengths: str) -> tuple[str, str]:
        """Cosines and sines of the new tokens' angles: [T, 1, R/2]."""
        builder, shape = self._builder, self._shape
        starts = builder.reshape(past_lengths, [shape.lanes, 1])
        offsets = builder.constant("offsets", np.arange(shape.tokens)[None])
        positions = builder.reshape(builder.node("Add", starts, offsets), [-1, 1])
        cosines, sines = (
            builder.node("Gather", builder.weight(f"rope.{name}"), positions, axis=0)
            for name in ("cosines", "sines")
        )
        return cosines, sines

    def _rotate(self, heads: str) -> str:
        """Rotate [T, heads, D], where the rotated pairs are in two halves (see parameters.py)."""
        builder, config = self._builder, self._config
        half = config.rope.dim // 2
        cosines, sines = self._rotations
        rest = config.head_dim - config.rope.dim
        sizes = [half, half, rest] if rest else [half, half]
        parts = builder.nodes("Split", len(sizes), heads, builder.integers(sizes), axis=-1)
        a, b = (builder.cast(part, "float32") for part in parts[:2])
        first = builder.node("Sub", builder.node("Mul", a, cosines), builder.node("Mul", b, sines))
        second = builder.node("Add", builder.node("Mul", b, cosines), builder.node("Mul", a, sines))
        turned = [builder.cast(part, builder.dtype) for part in (first, second)]
        return builder.node("Concat", *turned, *parts[2:], axis=-1)

    def _by_head(self, heads: str, order: list[int]) -> str:
        """[T, Hkv, D] as [B, N, Hkv, D], transposed."""
        builder, shape, config = self._builder, self._shape, self._config
        lanes = builder.reshape(
            heads, [shape.lanes, shape.tokens, config.num_kv_heads, config.head_dim]
        )
        return builder.node("Transpose", lanes, perm=order)

    def _group(self, queries: str) -> str:
        """[T, Hq, D] to [B, Hkv, N*G, D], scaled."""
        builder, shape, config = self._builder, self._shape, self._config
        lanes, kv_heads, dim = shape.lanes, config.num_kv_heads, config.head_dim
        scale = builder.cast(builder.number(dim**-0.5), builder.dtype)
        scaled = builder.node("Mul", queries, scale)
        if shape.tokens > 1:
            parts = builder.reshape(scaled, [lanes, shape.tokens, kv_heads, self._groups, dim])
            scaled = builder.node("Transpose", parts, perm=[0, 2, 1, 3, 4])
        return builder.reshape(scaled, [lanes, kv_heads, shape.tokens * self._groups, dim])

    def _prefix(self, layer: int) -> list[_Part]:
        """The learnt keys and values before every sequence, if the model has some."""
        length = self._config.prefix_length
        if not length:
            return []
        keys, values = (
            self._builder.weight(f"prefix.{layer}.{kind}") for kind in ("keys", "values")
        )
        return [_Part(keys, values, None, length)]

    def _weigh(self, queries: str, parts: Sequence[_Part]) -> str:
        """Attention of [B, Hkv, N*G, D] to all parts, in the same shape."""
        builder = self._builder
        scores = [
            self._hide(
                builder.cast(builder.node("MatMul", queries, part.keys), "float32"), part.visible
            )
            for part in parts
        ]
        weights = builder.node("Softmax", builder.node("Concat", *scores, axis=-1), axis=-1)
        lengths = builder.integers([part.length for part in parts])
        pieces = builder.nodes(
            "Split", len(parts), builder.cast(weights, builder.dtype), lengths, axis=-1
        )
        sums = [
            builder.node("MatMul", piece, part.values)
            for piece, part in zip(pieces, parts, strict=True)
        ]
        return functools.reduce(builder.add, sums)

    def _hide(self, scores: str, visible: str | None) -> str:
        if visible is None:
            return scores
        return self._builder.node("Where", visible, scores, self._lowest)

    def _see_new(self) -> str | None:
        """bool [1, 1, N*G, N]: whether a new token sees another one; None: there is one token."""
        tokens = self._shape.tokens
        if tokens == 1:
            return None
        causal = np.tril(np.ones((tokens, tokens), dtype=np.bool_))
        return self._builder.constant("causal", causal.repeat(self._groups, 0)[None, None])

    def _join(self, attended: str) -> str:
        """[B, Hkv, N*G, D] to [T, Hq*D]."""
        builder, shape, config = self._builder, self._shape, self._config
        lanes, kv_heads, dim = shape.lanes, config.num_kv_heads, config.head_dim
        if shape.tokens > 1:
            parts = builder.reshape(attended, [lanes, kv_heads, shape.tokens, self._groups, dim])
            attended = builder.node("Transpose", parts, perm=[0, 2, 1, 3, 4])
        return builder.reshape(attended, [lanes * shape.tokens, config.num_heads * dim])
