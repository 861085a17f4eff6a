"""A whole context as one ONNX graph without a cache, in the order of operations in which torch
exports the official code.

Hexaflake's compiler finds the attention by that order, and makes base and incremental graphs of it.
Its published script names the inputs, folds position_ids, looks for rotations as products with
gathered rows of a table, for the repetition of key heads before the product with queries, and for
the output layer behind a transposition of the first output, which it expects to be one of several.
Sources: compile/glm2_6b_dyn.py and infer/src/chatglm2-6b/modeling_chatglm.py in
github.com/hexaflakeai/ChatGLM2-6B.

S tokens, V vocabulary, H hidden size, Hq query and Hkv key/value heads, D head dim. Inputs and
outputs:

    input_ids       int64 [1, S]
    position_ids    int64 [1, S]
    attention_mask  int64 [1, S]            0: padding
    logits          float32 [1, S, V]
    keys.i          float32 [S, 1, Hkv, D]  of layer i, rotated
    values.i        float32 [S, 1, Hkv, D]
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from glmserve.graphs.onnx_builder import OnnxBuilder
from glmserve.model_config import ModelConfig


def save_whole_graph(builder: OnnxBuilder, config: ModelConfig, length: int, path: Path) -> None:
    """Write the graph of `length` tokens. Linear weights are stored transposed, [K, N]."""
    graph = _WholeGraph(builder, config, length)
    ids, positions, mask = (
        builder.input(name, "int64", [1, length])
        for name in ("input_ids", "position_ids", "attention_mask")
    )
    hidden = builder.node("Transpose", builder.embedding(ids), perm=[1, 0, 2])
    rotations, hides = graph.rotations(positions), graph.hidden_scores(mask)
    caches: list[tuple[str, str, str]] = []
    for layer in range(config.num_layers):
        hidden, keys, values = graph.block(layer, hidden, rotations, hides)
        caches += [("keys", str(layer), keys), ("values", str(layer), values)]
    if config.final_norm:
        hidden = graph.norm(hidden, "final_norm")
    logits = builder.node("Transpose", graph.linear(hidden, "output"), perm=[1, 0, 2])
    builder.output("logits", logits, "float32", [1, length, config.vocab_size])
    for kind, number, value in caches:
        shape = [length, 1, config.num_kv_heads, config.head_dim]
        builder.output(f"{kind}.{number}", value, "float32", shape)
    builder.save(path, path.stem)


class _WholeGraph:
    """The official code's modules. Activations are [S, 1, n], as there."""

    def __init__(self, builder: OnnxBuilder, config: ModelConfig, length: int) -> None:
        self._builder = builder
        self._config = config
        self._length = length

    def linear(self, x: str, module: str) -> str:
        """x @ weight, and the module's bias if it has one."""
        product = self._builder.node("MatMul", x, self._builder.plain_weight(module))
        bias = self._builder.bias(module)
        return self._builder.add(product, bias) if bias else product

    def norm(self, x: str, module: str) -> str:
        """RMSNorm: weight * (x * rsqrt(mean(x^2) + eps))."""
        builder = self._builder
        mean = builder.mean(builder.node("Pow", x, builder.number(2.0)))
        root = builder.node(
            "Sqrt", builder.node("Add", mean, builder.number(self._config.norm_eps))
        )
        normed = builder.node("Mul", x, builder.node("Div", builder.number(1.0), root))
        return builder.node("Mul", builder.weight(f"{module}.weight"), normed)

    def rotations(self, positions: str) -> str:
        """Cosines and sines of each position: [S, 1, R/2, 2]."""
        builder = self._builder
        rows = builder.node("Gather", builder.weight("rope.table"), positions, axis=0)
        return builder.node("Transpose", rows, perm=[1, 0, 2, 3])

    def hidden_scores(self, mask: str) -> str:
        """bool [1, 1, S, S]: whether a row does not see a column; padding sees everything."""
        builder, length = self._builder, self._length
        shape = builder.integers([1, length, length])
        ones = builder.node("Expand", builder.number(1.0), shape)
        causal = builder.node("Trilu", ones, upper=0)
        exact = builder.node("Cast", mask, to=1)
        columns = builder.node("Unsqueeze", exact, builder.integers([1]))
        seen = builder.node("Mul", causal, columns)
        rows = builder.node("Unsqueeze", exact, builder.integers([-1]))
        seen = builder.node("Sub", seen, builder.node("Sub", rows, builder.number(1.0)))
        hidden = builder.node("Less", seen, builder.number(0.5))
        return builder.node("Unsqueeze", hidden, builder.integers([1]))

    def block(self, layer: int, x: str, rotations: str, hides: str) -> tuple[str, str, str]:
        """A layer: the residual stream behind it, its keys and its values."""
        builder, name = self._builder, f"layers.{layer}"
        post_norm = self._config.residual_post_norm
        normed = self.norm(x, f"{name}.input_norm")
        attended, keys, values = self._attention(layer, normed, rotations, hides)
        middle = builder.add(normed if post_norm else x, attended)
        normed = self.norm(middle, f"{name}.post_norm")
        gate, up = builder.halves(self.linear(normed, f"{name}.gate_up"))
        silu = builder.node("Mul", gate, builder.node("Sigmoid", gate))
        down = self.linear(builder.node("Mul", silu, up), f"{name}.down")
        return builder.add(normed if post_norm else middle, down), keys, values

    def _attention(self, layer: int, x: str, rotations: str, hides: str) -> tuple[str, str, str]:
        builder, config, length = self._builder, self._config, self._length
        queries, kv_heads, dim = config.num_heads, config.num_kv_heads, config.head_dim
        widths = builder.integers([queries * dim, kv_heads * dim, kv_heads * dim])
        qkv = self.linear(x, f"layers.{layer}.qkv")
        q, k, v = builder.nodes("Split", 3, qkv, widths, axis=-1)
        query, key, value = (builder.reshape(part, [length, 1, -1, dim]) for part in (q, k, v))
        query, key = self._rotate(query, rotations), self._rotate(key, rotations)
        scores = self._scores(query, self._repeat(key), layer)
        low = builder.constant("minus_infinity", np.array(-np.inf, np.float32))
        weights = builder.node("Softmax", builder.node("Where", hides, low, scores), axis=-1)
        weights = builder.reshape(weights, [queries, length, length])
        repeated = builder.reshape(self._repeat(value), [length, queries, dim])
        values = builder.node("Transpose", repeated, perm=[1, 0, 2])
        attended = builder.reshape(
            builder.node("MatMul", weights, values), [1, queries, length, dim]
        )
        attended = builder.node("Transpose", attended, perm=[2, 0, 1, 3])
        attended = builder.reshape(attended, [length, 1, queries * dim])
        return self.linear(attended, f"layers.{layer}.dense"), key, value

    def _scores(self, query: str, key: str, layer: int) -> str:
        """[1, Hq, S, S]; as in the official code, they are divided by the layer's number before
        the product is stored, and multiplied by it afterwards."""
        builder, length = self._builder, self._length
        heads, dim, number = self._config.num_heads, self._config.head_dim, float(layer + 1)
        rows = builder.reshape(query, [length, heads, dim])
        columns = builder.reshape(key, [length, heads, dim])
        rows = builder.node("Transpose", rows, perm=[1, 0, 2])
        columns = builder.node("Transpose", columns, perm=[1, 0, 2])
        columns = builder.node("Transpose", columns, perm=[0, 2, 1])
        product = builder.node("MatMul", rows, columns)
        scaled = builder.node("Mul", product, builder.number(1.0 / (dim**0.5 * number)))
        scores = builder.reshape(scaled, [1, heads, length, length])
        return builder.node("Mul", scores, builder.number(number))

    def _repeat(self, heads: str) -> str:
        """[S, 1, Hkv, D] to [S, 1, Hq, D]: a key/value head for each query head."""
        builder, config, length = self._builder, self._config, self._length
        groups = config.num_heads // config.num_kv_heads
        apart = builder.node("Unsqueeze", heads, builder.integers([-2]))
        shape = builder.integers([length, 1, config.num_kv_heads, groups, config.head_dim])
        repeated = builder.node("Expand", apart, shape)
        return builder.reshape(repeated, [length, 1, config.num_heads, config.head_dim])

    def _rotate(self, heads: str, rotations: str) -> str:
        """Rotate neighbours in the first R numbers of each head [S, 1, heads, D]."""
        builder, rotary, length = self._builder, self._config.rope.dim, self._length
        turning, rest = (
            builder.node("Slice", heads, *map(builder.integers, ([start], [stop], [-1])))
            for start, stop in ((0, rotary), (rotary, self._config.head_dim))
        )
        pairs = builder.reshape(turning, [length, 1, -1, rotary // 2, 2])
        table = builder.reshape(rotations, [length, 1, 1, rotary // 2, 2])
        a, b = self._columns(pairs)
        cosines, sines = self._columns(table)
        first = builder.node("Sub", builder.node("Mul", a, cosines), builder.node("Mul", b, sines))
        second = builder.node("Add", builder.node("Mul", b, cosines), builder.node("Mul", a, sines))
        stacked = builder.node(
            "Concat",
            *(builder.node("Unsqueeze", x, builder.integers([-1])) for x in (first, second)),
            axis=-1,
        )
        turned = builder.reshape(stacked, [length, 1, -1, rotary])
        return builder.node("Concat", turned, rest, axis=-1)

    def _columns(self, pairs: str) -> list[str]:
        """The first and the second numbers of pairs in the last axis."""
        numbers = [self._builder.constant(f"n{i}", np.array(i, np.int64)) for i in (0, 1)]
        return [self._builder.node("Gather", pairs, i, axis=-1) for i in numbers]
