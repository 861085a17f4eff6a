"""The layers of `glm.py` for a step of few rows: five operations each, see ops/few_rows.py."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from glmserve.model_config import ModelConfig
from glmserve.models.layers import LINEARS, Layer
from glmserve.ops.attention.backend import Cache, Plan
from glmserve.ops.base import Ops
from glmserve.ops.few_rows import FewRows
from glmserve.ops.inputs import Inputs


def are_fusable(config: ModelConfig, layers: Sequence[Layer], ops: Ops[Cache, Plan]) -> bool:
    """Whether steps of few rows can be computed here: by one rank, without norms of biases or of
    results, and with weights that the operations read."""
    few_rows = ops.few_rows
    return (
        few_rows is not None
        and (config.shard.size, config.stage.size) == (1, 1)
        and config.norm == "rmsnorm"
        and config.gated_ffn
        and not config.residual_post_norm
        and not config.sandwich_norms
        and all(few_rows.supports(getattr(layer, n).weight) for layer in layers for n in LINEARS)
    )


def fits(tokens: int, inputs: Inputs[Plan], most_rows: int) -> bool:
    """Whether a step of so many tokens is computed here. A scored prompt has an output row for each
    token and further ones for what is sampled behind it."""
    outputs = tokens if inputs.output_rows is None else len(inputs.output_rows)
    return inputs.adapters is None and max(tokens, outputs) <= most_rows


def run_layers(
    layers: Sequence[Layer],
    hidden: Tensor,
    rope_rows: Tensor,
    inputs: Inputs[Plan],
    caches: Sequence[Cache],
    ops: Ops[Cache, Plan],
    few_rows: FewRows[Cache, Plan],
    eps: float,
) -> Tensor:
    """The stream behind the last layer, of the output rows.

    Args:
        hidden: the stream before the first layer [T, H]; overwritten.
        few_rows: of `ops`.
        eps: of norms.
    """
    stream = few_rows.begin(hidden)
    for layer, cache in zip(layers, caches, strict=True):
        queries = few_rows.attention_input(
            stream, layer.input_norm.weight, eps, layer.qkv, rope_rows, cache, inputs.attention
        )
        attended = ops.attention.run(queries, cache, inputs.attention).flatten(1)
        stream = few_rows.add(attended, layer.dense, stream.hidden)
        if layer is layers[-1]:  # after the last attention only the output rows matter
            stream = stream.rows(inputs.output_rows)
            if len(stream.hidden) == 0:
                break
        activated = few_rows.gated(stream, layer.post_norm.weight, eps, layer.gate_up)
        stream = few_rows.add(activated, layer.down, stream.hidden)
    return stream.hidden
