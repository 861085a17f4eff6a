"""The model written out plainly: one sequence as a whole, no cache, no blocks, no fused operations.

It shares the reading of checkpoints with the server, and nothing of `ops/` and `models/`'s forward
passes. Shapes and names as in `names.py`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from glmserve.config import ReportProgress
from glmserve.model_config import ModelConfig, RopeConfig
from glmserve.model_config.config import Yarn
from glmserve.models.prefix import load_prefix
from glmserve.models.weights import load_weights
from glmserve.ops.linear.quantized import QuantizedWeight
from glmserve.runner import tensor_names as names

_ALPHA = math.sqrt(2 * 28)
"""Factor of ChatGLM-6B's residual: sqrt(2 * 28 layers), a constant in its original code."""


class Positions(NamedTuple):
    """Where the tokens of a sequence are, and what they see."""

    rotary: Tensor
    """int64 [axes, T]"""
    visible: Tensor
    """bool [T, T]: whether token t attends to token s."""


def read_parameters(
    config: ModelConfig, checkpoint: Path, dtype: torch.dtype, progress: ReportProgress
) -> dict[str, Tensor]:
    """All parameters by their canonical names; codes become the numbers that they stand for.

    Raises:
        CheckpointError: see `load_weights`.
    """
    found: dict[str, Tensor] = {}
    for name, tensor in load_weights(config, checkpoint, dtype, torch.device("cpu"), progress):
        found[name] = tensor
        module, _, _ = name.rpartition(".")
        codes, scales = found.get(f"{module}.codes"), found.get(f"{module}.scales")
        if codes is not None and scales is not None and config.stored_bits is not None:
            weight = QuantizedWeight(codes, scales.view(len(codes), -1), config.stored_bits)
            found[f"{module}.weight"] = weight.dequantized(dtype)
            del found[f"{module}.codes"], found[f"{module}.scales"]
    return found


class Reference:
    """The forward pass of one checkpoint.

    Args:
        dtype: of all numbers, float32 or float64. Angles of the rotation are rounded to float32, as
            in the models' original code.

    Raises:
        CheckpointError: see `load_weights` and `load_prefix`.
    """

    def __init__(
        self, config: ModelConfig, checkpoint: Path, dtype: torch.dtype, progress: ReportProgress
    ) -> None:
        self._config = config
        self._weights = read_parameters(config, checkpoint, dtype, progress)
        self._prefix = load_prefix(config, config.prefix, dtype) if config.prefix else None

    def add_to_weight(self, name: str, change: Tensor) -> None:
        """Add to a weight, by its canonical name: what an adapter changes."""
        self._weights[name] += change.to(self._weights[name])

    @torch.inference_mode()
    def tensors(self, token_ids: Sequence[int]) -> dict[str, Tensor]:
        """Every tensor of the forward pass over this sequence.

        Raises:
            InvalidRequestError: a mark is missing in a prompt that needs marks.
        """
        config, weights = self._config, self._weights
        where = positions_of(config, token_ids)
        rotations = _rotations(config, where.rotary)
        stream = weights["embedding.weight"][torch.tensor(list(token_ids))]
        found = {names.EMBEDDING: stream}
        for layer in range(config.num_layers):
            made = self._layer(layer, stream, rotations, where.visible)
            stream = made.pop("output")
            found |= {names.layer_tensor(layer, kind): tensor for kind, tensor in made.items()}
        found[names.STREAM] = stream
        if config.final_norm:
            stream = found[names.FINAL_NORM] = self._norm(stream, "final_norm")
        output = weights.get("output.weight", weights["embedding.weight"])
        found[names.LOGITS] = stream @ output.T
        return found

    def _layer(
        self, layer: int, stream: Tensor, rotations: Tensor, visible: Tensor
    ) -> dict[str, Tensor]:
        """The layer's tensors by kind, and `output`, the stream behind it."""
        config, prefix = self._config, f"layers.{layer}"
        made = {"input": stream, "input_norm": self._norm(stream, f"{prefix}.input_norm")}
        made["qkv"] = self._linear(made["input_norm"], f"{prefix}.qkv")
        heads = made["qkv"].view(len(stream), -1, config.head_dim)
        ends = config.num_heads, config.num_heads + config.num_kv_heads
        query, key, value = heads.tensor_split(ends, dim=1)
        made |= {"query": _rotate(query, rotations), "key": _rotate(key, rotations), "value": value}
        made["attention"] = self._attend(layer, made, visible).flatten(1)
        made["dense"] = self._linear(made["attention"], f"{prefix}.dense")
        attended = self._result(made, "dense", prefix)
        made["middle"] = self._residual(stream, made["input_norm"]) + attended
        made["post_norm"] = self._norm(made["middle"], f"{prefix}.post_norm")
        made["gate_up"] = self._linear(made["post_norm"], f"{prefix}.gate_up")
        made["activation"] = self._activate(made["gate_up"])
        made["down"] = self._linear(made["activation"], f"{prefix}.down")
        added = self._result(made, "down", prefix)
        made["output"] = self._residual(made["middle"], made["post_norm"]) + added
        return made

    def _result(self, made: dict[str, Tensor], kind: str, prefix: str) -> Tensor:
        """What attention or the MLP adds to the stream; a norm of it is one of the tensors."""
        if self._config.sandwich_norms:
            made[f"{kind}_norm"] = self._norm(made[kind], f"{prefix}.{kind}_norm")
        return made.get(f"{kind}_norm", made[kind])

    def _attend(self, layer: int, made: dict[str, Tensor], visible: Tensor) -> Tensor:
        """softmax(Q K^T / sqrt(D)) V over the prefix, which every token sees, and the sequence:
        [T, Hq, D]."""
        config = self._config
        query, key, value = made["query"], made["key"], made["value"]
        if self._prefix is not None:
            keys, values = self._prefix[layer].chunk(2, dim=1)
            key, value = torch.cat((keys, key)), torch.cat((values, value))
            visible = F.pad(visible, (len(keys), 0), value=True)
        repeats = config.num_heads // config.num_kv_heads
        key, value = (x.repeat_interleave(repeats, dim=1) for x in (key, value))
        scores = torch.einsum("thd,shd->hts", query, key) / math.sqrt(config.head_dim)
        odds = scores.masked_fill(~visible, float("-inf")).softmax(-1)
        return torch.einsum("hts,shd->thd", odds, value)

    def _linear(self, x: Tensor, module: str) -> Tensor:
        product = x @ self._weights[f"{module}.weight"].T
        bias = self._weights.get(f"{module}.bias")
        return product if bias is None else product + bias

    def _norm(self, x: Tensor, module: str) -> Tensor:
        weight, eps = self._weights[f"{module}.weight"], self._config.norm_eps
        if self._config.norm == "layernorm":
            return F.layer_norm(x, weight.shape, weight, self._weights[f"{module}.bias"], eps)
        return x / (x.square().mean(-1, keepdim=True) + eps).sqrt() * weight

    def _residual(self, stream: Tensor, normed: Tensor) -> Tensor:
        if self._config.model_type == "chatglm-6b":
            return _ALPHA * normed
        return normed if self._config.residual_post_norm else stream

    def _activate(self, gate_up: Tensor) -> Tensor:
        if not self._config.gated_ffn:
            return F.gelu(gate_up, approximate="tanh")
        gate, up = gate_up.chunk(2, dim=-1)
        return gate / (1 + torch.exp(-gate)) * up


def positions_of(config: ModelConfig, token_ids: Sequence[int]) -> Positions:
    """Positions and visibility of a sequence's tokens, see PromptLayout.

    Raises:
        InvalidRequestError: a mark is missing in a prompt that needs marks.
    """
    order = torch.arange(len(token_ids))
    visible = order[:, None] >= order
    if config.prompt_marks is None:
        return Positions(order[None], visible)
    layout = config.prompt_marks.layout(list(token_ids))
    in_context = order < layout.context_length
    first = torch.where(in_context, order, layout.mask_position)
    second = torch.where(in_context, 0, order - layout.context_length + 1)
    return Positions(torch.stack((first, second)), visible | in_context)


def _rotations(config: ModelConfig, positions: Tensor) -> Tensor:
    """The rotation of each pair of a head's first dims, as complex numbers [T, 1, pairs]."""
    rope = config.rope
    frequencies = 1.0 / rope.base ** (torch.arange(0, rope.dim, 2).float() / rope.dim)
    if rope.rounded_frequencies:
        frequencies = frequencies.half().float()
    magnitude = 1.0
    if rope.yarn is not None:
        frequencies = frequencies * _stretch(rope, rope.yarn)
        magnitude = rope.yarn.attention_factor
    angles = (positions.float() / rope.position_divisor)[..., None] * frequencies
    angles = torch.cat(tuple(angles), dim=-1).double()  # [T, pairs of all axes]
    return torch.polar(torch.full_like(angles, magnitude), angles)[:, None]


def _stretch(rope: RopeConfig, yarn: Yarn) -> Tensor:
    """What YaRN multiplies each pair's frequency by: 1 for fast pairs, 1 / factor for slow ones,
    and a straight line over the pairs between (arXiv 2309.00071, section 3.2)."""
    bounds = [
        rope.dim / 2 * math.log(yarn.original_context / turns / math.tau, rope.base)
        for turns in (yarn.beta_fast, yarn.beta_slow)
    ]
    first, last = (math.floor(bounds[0]), math.ceil(bounds[1])) if yarn.truncate else bounds
    first, last = max(first, 0), min(last, rope.dim - 1)
    pairs = torch.arange(rope.dim // 2)
    slow = ((pairs - first) / max(last - first, 0.001)).clamp(0, 1)
    return (1 - slow) + slow / yarn.factor


def _rotate(heads: Tensor, rotations: Tensor) -> Tensor:
    """Rotate adjacent pairs (2i, 2i+1) of the first dims; the others stay."""
    rotary = 2 * rotations.shape[-1]
    pairs = heads[..., :rotary].double().reshape(*heads.shape[:2], -1, 2)
    rotated = (
        torch.view_as_real(torch.view_as_complex(pairs) * rotations).flatten(-2).to(heads.dtype)
    )
    return torch.cat((rotated, heads[..., rotary:]), dim=-1)
