"""The block of ChatGLM2, ChatGLM3, CodeGeeX2 and GLM-4, in every variant ModelConfig can say.

T new tokens, H hidden size, Hq query heads, Hkv key/value heads, D head dim, F ffn size, V
vocabulary, O output rows.

    h = embedding                                            [T, H]
    n = norm(h);  a = dense(attention(qkv(n)));       h = (n or h) + a
    n = norm(h);  m = down(silu(gate) * up);          h = (n or h) + m
    logits = output(norm(h[output rows]))                    [O, V]

The residual is the stream h, or with residual_post_norm the normed tensor n.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from glmserve.model_config import ModelConfig
from glmserve.models.parameters import Parameters
from glmserve.ops.attention import AttentionPlan
from glmserve.ops.base import Ops
from glmserve.ops.batch import Batch


@dataclass(frozen=True, slots=True)
class Linear:
    weight: Tensor
    """Packed by Ops.pack_linear."""
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


class Glm:
    """Weights and the forward pass over one step's batch."""

    def __init__(
        self, config: ModelConfig, parameters: Parameters, ops: Ops, max_context: int
    ) -> None:
        """Take over `parameters`, which is emptied while linear weights are packed one by one."""
        self.config = config
        self.ops = ops
        self.embedding = parameters.pop("embedding.weight")
        self.layers = [_layer(parameters, ops, i) for i in range(config.num_layers)]
        self.final_norm = _norm(parameters, "final_norm") if config.final_norm else None
        self.output = ops.pack_linear(parameters.pop("output.weight", self.embedding))
        self.rope_table = ops.rope_table(config.rope, max_context, self.embedding.device)

    def forward(self, batch: Batch, caches: Sequence[Tensor]) -> Tensor:
        """Write K/V of all tokens to the cache; last hidden states of the output rows, [O, H]."""
        ops, device = self.ops, self.embedding.device
        plan = ops.attention.plan(batch, caches[0])
        positions = torch.from_numpy(batch.positions).to(device)
        rope_rows = ops.rope_rows(self.rope_table, positions)
        hidden = ops.embedding(torch.from_numpy(batch.input_ids).to(device), self.embedding)
        for layer, cache in zip(self.layers[:-1], caches, strict=False):
            normed, attended = self._attend(layer, hidden, rope_rows, cache, plan)
            hidden = self._feed_forward(layer, hidden, normed, attended)
        # After the last attention only the output rows matter.
        normed, attended = self._attend(self.layers[-1], hidden, rope_rows, caches[-1], plan)
        if len(batch.output_rows) == 0:
            return hidden[:0]
        if len(batch.input_ids) > 1:
            rows = torch.from_numpy(batch.output_rows).to(device)
            hidden, normed, attended = hidden[rows], normed[rows], attended[rows]
        hidden = self._feed_forward(self.layers[-1], hidden, normed, attended)
        return hidden if self.final_norm is None else self._norm(hidden, self.final_norm)

    def logits(self, hidden: Tensor) -> Tensor:
        """What comes next after each of the last hidden states [O, H]: float32 [O, V]."""
        return self.ops.linear(hidden, self.output).float()

    def _attend(
        self, layer: Layer, hidden: Tensor, rope_rows: Tensor, cache: Tensor, plan: AttentionPlan
    ) -> tuple[Tensor, Tensor]:
        """The normed input [T, H] and what attention makes of it [T, Hq*D]."""
        normed = self._norm(hidden, layer.input_norm)
        qkv = self.ops.linear(normed, layer.qkv.weight, layer.qkv.bias)
        heads = qkv.view(len(qkv), -1, self.config.head_dim)  # [T, Hq + 2*Hkv, D]
        attended = self.ops.self_attention(heads, rope_rows, cache, plan)
        return normed, attended.flatten(1)

    def _feed_forward(
        self, layer: Layer, hidden: Tensor, normed: Tensor, attended: Tensor
    ) -> Tensor:
        """Everything after attention, row by row: the next layer's input [T, H]."""
        ops, post_norm = self.ops, self.config.residual_post_norm
        projected = ops.linear(attended, layer.dense.weight, layer.dense.bias)
        hidden = projected.add_(normed if post_norm else hidden)
        normed = self._norm(hidden, layer.post_norm)
        gate_up = ops.linear(normed, layer.gate_up.weight, layer.gate_up.bias)
        down = ops.linear(ops.silu_and_mul(gate_up), layer.down.weight, layer.down.bias)
        return down.add_(normed if post_norm else hidden)

    def _norm(self, x: Tensor, norm: Norm) -> Tensor:
        if norm.bias is None:
            return self.ops.rms_norm(x, norm.weight, self.config.norm_eps)
        return self.ops.layer_norm(x, norm.weight, norm.bias, self.config.norm_eps)


def _layer(parameters: Parameters, ops: Ops, index: int) -> Layer:
    prefix = f"layers.{index}"
    return Layer(
        input_norm=_norm(parameters, f"{prefix}.input_norm"),
        qkv=_linear(parameters, ops, f"{prefix}.qkv"),
        dense=_linear(parameters, ops, f"{prefix}.dense"),
        post_norm=_norm(parameters, f"{prefix}.post_norm"),
        gate_up=_linear(parameters, ops, f"{prefix}.gate_up"),
        down=_linear(parameters, ops, f"{prefix}.down"),
    )


def _linear(parameters: Parameters, ops: Ops, name: str) -> Linear:
    weight = ops.pack_linear(parameters.pop(f"{name}.weight"))
    return Linear(weight, parameters.pop(f"{name}.bias", None))


def _norm(parameters: Parameters, name: str) -> Norm:
    return Norm(parameters.pop(f"{name}.weight"), parameters.pop(f"{name}.bias", None))
