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

An adapter adds to the results of linear modules, for the tokens that have it (`ops/adapters`).

A step of few rows is computed by `few_rows.py`, where Ops has such operations.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Generic

from torch import Tensor

from glmserve.model_config import ModelConfig
from glmserve.models.adapter_slots import AdapterRoom, make_slots
from glmserve.models.few_rows import are_fusable, fits, run_layers
from glmserve.models.layers import (
    LINEARS,
    NORMS,
    Layer,
    Linear,
    Norm,
    take_layer,
    take_optional_norm,
)
from glmserve.models.parameters import Parameters
from glmserve.models.stream import Stream
from glmserve.ops.adapters.slots import RowPlan
from glmserve.ops.attention.backend import Cache, Plan
from glmserve.ops.base import AnyOps, Ops
from glmserve.ops.collectives import Collectives
from glmserve.ops.inputs import Inputs
from glmserve.ops.linear.packed import PackedWeight
from glmserve.ops.linear.segments import Segments


class Glm(Generic[Cache, Plan]):
    """Weights and the forward pass over one step's batch; see build_model for its arguments."""

    def __init__(
        self,
        config: ModelConfig,
        parameters: Parameters,
        ops: Ops[Cache, Plan],
        max_context: int,
        collectives: Collectives,
        adapters: AdapterRoom | None,
    ) -> None:
        self.config = config
        self.ops = ops
        self.collectives = collectives
        embedding: Tensor | None = parameters.pop("embedding.weight", None)
        self.embedding = embedding if config.stage.is_first else None
        slots = {} if adapters is None else make_slots(config, parameters, ops, adapters)
        self.layers = [take_layer(parameters, i, slots) for i in config.layers]
        self.fusable = are_fusable(config, self.layers, ops)
        self.final_norm = take_optional_norm(parameters, "final_norm")
        self.output = _output_layer(parameters, embedding, ops) if config.stage.is_last else None
        device = self.layers[0].input_norm.weight.device
        self.rope_table = ops.rope_table(config.rope, max_context, device)

    def forward(self, inputs: Inputs[Plan], caches: Sequence[Cache]) -> Tensor | None:
        """See Model."""
        return self.run(*self.begin(inputs), inputs, caches)

    def begin(self, inputs: Inputs[Plan]) -> tuple[Stream, Tensor]:
        """The stream before the first layer, and the step's rows of the rotary table."""
        rope_rows = self.ops.rope_rows(self.rope_table, inputs.positions)
        return self._begin(inputs.input_ids), rope_rows

    def run(
        self, stream: Stream, rope_rows: Tensor, inputs: Inputs[Plan], caches: Sequence[Cache]
    ) -> Tensor | None:
        """`forward` after `begin`: the layers and the last norm."""
        few_rows = self.ops.few_rows
        if (
            few_rows is not None
            and self.fusable
            and fits(len(stream.hidden), inputs, few_rows.most_rows)
        ):
            eps = self.config.norm_eps
            hidden = run_layers(
                self.layers, stream.hidden, rope_rows, inputs, caches, self.ops, few_rows, eps
            )
            return self._output(Stream(hidden, None))
        return self._run_blocks(stream, rope_rows, inputs, caches)

    def _run_blocks(
        self, stream: Stream, rope_rows: Tensor, inputs: Inputs[Plan], caches: Sequence[Cache]
    ) -> Tensor | None:
        """`run` operation by operation."""
        stage, adapters = self.config.stage, inputs.adapters
        tokens = None if adapters is None else adapters.tokens
        whole = self.layers[:-1] if stage.is_last else self.layers
        for layer, cache in zip(whole, caches, strict=False):
            stream = self._attend(layer, stream, rope_rows, cache, inputs)
            stream = self._feed_forward(layer, stream, tokens)
        if not stage.is_last:
            self.collectives.send(stream.packed())
            return None
        # After the last attention only the output rows matter.
        stream = self._attend(self.layers[-1], stream, rope_rows, caches[-1], inputs)
        stream = stream.rows(inputs.output_rows)
        if len(stream.hidden) == 0:
            return stream.hidden
        outputs = None if adapters is None else adapters.outputs
        return self._output(self._feed_forward(self.layers[-1], stream, outputs))

    def _output(self, stream: Stream) -> Tensor:
        """The last norm of the stream behind the last layer."""
        if self.final_norm is None or len(stream.hidden) == 0:
            return stream.sum()
        return self._norm(stream, self.final_norm)[1]

    def linears(self) -> dict[str, Linear]:
        """The linear modules of the layers, by canonical name."""
        pairs = zip(self.config.layers, self.layers, strict=True)
        return {
            f"layers.{i}.{name}": getattr(layer, name) for i, layer in pairs for name in LINEARS
        }

    def biases(self) -> dict[str, Tensor]:
        """The biases of linear modules and norms, by canonical name."""
        norms: dict[str, Linear | Norm | None] = {"final_norm": self.final_norm}
        for i, layer in zip(self.config.layers, self.layers, strict=True):
            norms |= {f"layers.{i}.{name}": getattr(layer, name) for name in NORMS}
        named = {**self.linears(), **norms}
        return {
            f"{name}.bias": module.bias
            for name, module in named.items()
            if module is not None and module.bias is not None
        }

    def logits(self, hidden: Tensor, out: Tensor | None = None) -> Tensor:
        """See Model."""
        assert self.output is not None, "only the last stage has logits"
        if out is not None and self.collectives.shard.size == 1:
            return out.copy_(self.ops.linear(hidden, self.output))
        logits = self.ops.logits(hidden, self.output)
        if self.collectives.shard.size > 1:
            logits = self.collectives.join(logits, self.config.vocab_parts)
        return logits if out is None else out.copy_(logits)

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
        self, layer: Layer, stream: Stream, rope_rows: Tensor, cache: Cache, inputs: Inputs[Plan]
    ) -> Stream:
        adapters = None if inputs.adapters is None else inputs.adapters.tokens
        hidden, normed = self._norm(stream, layer.input_norm)
        qkv = self._product(normed, layer.qkv, adapters)
        heads = qkv.view(len(qkv), -1, self.config.head_dim)  # [T, Hq + 2*Hkv, D]
        attended = self.ops.self_attention(heads, rope_rows, cache, inputs.attention).flatten(1)
        dense = self._summed(attended, layer.dense, adapters)
        result = self._result(dense, layer.dense_norm)
        return Stream(self._residual(hidden, normed), result)

    def _feed_forward(self, layer: Layer, stream: Stream, adapters: RowPlan | None) -> Stream:
        hidden, normed = self._norm(stream, layer.post_norm)
        gate_up = self._product(normed, layer.gate_up, adapters)
        down = self._summed(self._activate(gate_up), layer.down, adapters)
        return Stream(self._residual(hidden, normed), self._result(down, layer.down_norm))

    def _product(self, x: Tensor, linear: Linear, adapters: RowPlan | None) -> Tensor:
        """[T, out], with what the adapters of the rows add."""
        y = self.ops.linear(x, linear.weight, linear.bias)
        if adapters is not None and linear.lora is not None:
            linear.lora.add(x, y, adapters)
        return y

    def _summed(self, x: Tensor, linear: Linear, adapters: RowPlan | None) -> Tensor:
        """A product whose inputs are spread over the ranks: [T, H]."""
        if not isinstance(linear.weight, Segments):
            return self.collectives.sum(self._product(x, linear, adapters))
        adapt = linear.adapt_segments(adapters)
        part = linear.weight.multiply(x, linear.bias, self.ops.linear, adapt)
        return self.collectives.ordered_sum(part).to(x.dtype)

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
