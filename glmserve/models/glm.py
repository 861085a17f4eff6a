"""The block of ChatGLM2, ChatGLM3, CodeGeeX2 and GLM-4 up to 0414, in every variant of ModelConfig.

T new tokens, H hidden size, Hq query heads, Hkv key/value heads, D head dim, F ffn size, V
vocabulary, O output rows.

    h = embedding                                            [T, H]
    n = norm(h);  a = dense(attention(qkv(n)));       h = (n or h) + a
    n = norm(h);  m = down(silu(gate) * up);          h = (n or h) + m
    logits = output(norm(h[output rows]))                    [O, V]

The residual is the stream h, or with residual_post_norm the normed tensor n. With sandwich_norms,
norms of their own are applied to a and to m before they are added. The norm that follows a sum
computes the sum as well, in one pass over memory if Ops has such a kernel.

A rank of a group has some heads, some columns of F and some rows of V. Ranks add what dense and
down give, and the rows of the embedding, and join the logits (`ops/collectives.py`). A stage has
some layers: it receives the stream from the stage before, and sends its own to the next.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Generic

from torch import Tensor

from glmserve.model_config import ModelConfig
from glmserve.models.parameters import Parameters
from glmserve.models.stream import Stream
from glmserve.ops.attention.backend import Cache, Plan
from glmserve.ops.base import AnyOps, Ops, PackedWeight
from glmserve.ops.collectives import Collectives
from glmserve.ops.inputs import Inputs
from glmserve.ops.linear.segments import Segments


@dataclass(frozen=True, slots=True)
class Linear:
    weight: PackedWeight
    bias: Tensor | None


@dataclass(frozen=True, slots=True)
class Norm:
    weight: Tensor
    bias: Tensor | None


@dataclass(frozen=True, slots=True)
class Layer:
    input_norm: Norm
    qkv: Linear
    dense: Linear
    post_norm: Norm
    gate_up: Linear
    down: Linear
    dense_norm: Norm | None = None
    down_norm: Norm | None = None
    """The sandwich norms."""


class Glm(Generic[Cache, Plan]):
    """Weights and the forward pass over one step's batch; see build_model for its arguments."""

    def __init__(
        self,
        config: ModelConfig,
        parameters: Parameters,
        ops: Ops[Cache, Plan],
        max_context: int,
        collectives: Collectives,
    ) -> None:
        self.config = config
        self.ops = ops
        self.collectives = collectives
        embedding: Tensor | None = parameters.pop("embedding.weight", None)
        self.embedding = embedding if config.stage.is_first else None
        self.layers = [_layer(parameters, i) for i in config.layers]
        self.final_norm = _optional_norm(parameters, "final_norm")
        self.output = _output_layer(parameters, embedding, ops) if config.stage.is_last else None
        device = self.layers[0].input_norm.weight.device
        self.rope_table = ops.rope_table(config.rope, max_context, device)

    def forward(self, inputs: Inputs[Plan], caches: Sequence[Cache]) -> Tensor | None:
        """See Model."""
        ops, stage = self.ops, self.config.stage
        rope_rows = ops.rope_rows(self.rope_table, inputs.positions)
        stream = self._begin(inputs.input_ids)
        whole = self.layers[:-1] if stage.is_last else self.layers
        for layer, cache in zip(whole, caches, strict=False):
            stream = self._attend(layer, stream, rope_rows, cache, inputs.attention)
            stream = self._feed_forward(layer, stream)
        if not stage.is_last:
            self.collectives.send(stream.packed())
            return None
        # After the last attention only the output rows matter.
        stream = self._attend(self.layers[-1], stream, rope_rows, caches[-1], inputs.attention)
        stream = stream.rows(inputs.output_rows)
        if len(stream.hidden) == 0:
            return stream.hidden
        stream = self._feed_forward(self.layers[-1], stream)
        if self.final_norm is None:
            return stream.sum()
        return self._norm(stream, self.final_norm)[1]

    def logits(self, hidden: Tensor) -> Tensor:
        """Logits of the token after each of the last hidden states [O, H]: float32 [O, V]."""
        assert self.output is not None, "only the last stage has logits"
        logits = self.ops.linear(hidden, self.output).float()
        return self.collectives.join(logits, self.config.vocab_parts)

    def _begin(self, token_ids: Tensor) -> Stream:
        """The stream before this stage's first layer."""
        if self.config.stage.is_first:
            return Stream(self._embed(token_ids), None)
        like = self.layers[0].input_norm.weight
        shape = (2, len(token_ids), self.config.hidden_size)
        return Stream(*self.collectives.receive(like.new_empty(shape)))

    def _embed(self, token_ids: Tensor) -> Tensor:
        """Rows of the embedding, from the ranks that have them: [T, H]."""
        assert self.embedding is not None, "only the first stage embeds"
        if self.collectives.shard.size == 1:
            return self.ops.embedding(token_ids, self.embedding)
        first = sum(self.config.vocab_parts[: self.collectives.shard.rank])
        rows = token_ids - first
        elsewhere = (rows < 0) | (rows >= len(self.embedding))
        own = self.ops.embedding(rows.masked_fill(elsewhere, 0), self.embedding)
        return self.collectives.sum(own.masked_fill(elsewhere[:, None], 0))

    def _attend(
        self, layer: Layer, stream: Stream, rope_rows: Tensor, cache: Cache, plan: Plan
    ) -> Stream:
        hidden, normed = self._norm(stream, layer.input_norm)
        qkv = self.ops.linear(normed, layer.qkv.weight, layer.qkv.bias)
        heads = qkv.view(len(qkv), -1, self.config.head_dim)  # [T, Hq + 2*Hkv, D]
        attended = self.ops.self_attention(heads, rope_rows, cache, plan).flatten(1)
        result = self._result(self._summed(attended, layer.dense), layer.dense_norm)
        return Stream(self._residual(hidden, normed), result)

    def _feed_forward(self, layer: Layer, stream: Stream) -> Stream:
        ops = self.ops
        hidden, normed = self._norm(stream, layer.post_norm)
        gate_up = ops.linear(normed, layer.gate_up.weight, layer.gate_up.bias)
        down = self._summed(self._activate(gate_up), layer.down)
        return Stream(self._residual(hidden, normed), self._result(down, layer.down_norm))

    def _summed(self, x: Tensor, linear: Linear) -> Tensor:
        """A product whose inputs are spread over the ranks: [T, H]."""
        if isinstance(linear.weight, Segments):
            part = linear.weight.multiply(x, linear.bias, self.ops.linear)
            return self.collectives.ordered_sum(part).to(x.dtype)
        return self.collectives.sum(self.ops.linear(x, linear.weight, linear.bias))

    def _result(self, x: Tensor, norm: Norm | None) -> Tensor:
        """What attention or the MLP adds to the stream."""
        return x if norm is None else self.ops.rms_norm(x, norm.weight, self.config.norm_eps)

    def _residual(self, hidden: Tensor, normed: Tensor) -> Tensor:
        """The tensor that a block's result is added to; it may be overwritten."""
        return normed if self.config.residual_post_norm else hidden

    def _activate(self, gate_up: Tensor) -> Tensor:
        """Between the two products of the MLP."""
        return self.ops.silu_and_mul(gate_up)

    def _norm(self, stream: Stream, norm: Norm) -> tuple[Tensor, Tensor]:
        """The stream's sum, and its norm."""
        ops, eps = self.ops, self.config.norm_eps
        hidden, addend = stream.hidden, stream.addend
        if norm.bias is not None:
            hidden = stream.sum()
            return hidden, ops.layer_norm(hidden, norm.weight, norm.bias, eps)
        if addend is None:
            return hidden, ops.rms_norm(hidden, norm.weight, eps)
        return hidden, ops.add_rms_norm(addend, hidden, norm.weight, eps)


def _output_layer(parameters: Parameters, embedding: Tensor | None, ops: AnyOps) -> PackedWeight:
    """The stored one, else the tied embedding."""
    if "output.weight" in parameters:
        return parameters.pop("output.weight")
    assert embedding is not None, "tied embeddings are held by the last stage"
    return ops.pack_linear(embedding)


def _layer(parameters: Parameters, index: int) -> Layer:
    prefix = f"layers.{index}"
    return Layer(
        input_norm=_norm(parameters, f"{prefix}.input_norm"),
        qkv=_linear(parameters, f"{prefix}.qkv"),
        dense=_linear(parameters, f"{prefix}.dense"),
        post_norm=_norm(parameters, f"{prefix}.post_norm"),
        gate_up=_linear(parameters, f"{prefix}.gate_up"),
        down=_linear(parameters, f"{prefix}.down"),
        dense_norm=_optional_norm(parameters, f"{prefix}.dense_norm"),
        down_norm=_optional_norm(parameters, f"{prefix}.down_norm"),
    )


def _linear(parameters: Parameters, name: str) -> Linear:
    return Linear(parameters.pop(f"{name}.weight"), parameters.pop(f"{name}.bias", None))


def _optional_norm(parameters: Parameters, name: str) -> Norm | None:
    return _norm(parameters, name) if f"{name}.weight" in parameters else None


def _norm(parameters: Parameters, name: str) -> Norm:
    return Norm(parameters.pop(f"{name}.weight"), parameters.pop(f"{name}.bias", None))
