"""The memory that a GPU's runner takes beside weights, KV cache and adapters."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch

from glmserve.config import RunnerConfig
from glmserve.model_config import ModelConfig
from glmserve.models.parameters import is_layer_weight, parameter_shapes
from glmserve.ops.linear.float8 import product_bytes
from glmserve.ops.packed_arrays import packed_bytes
from glmserve.ops.step_shape import StepShape
from glmserve.runner.graph_memory import GraphSpecs
from glmserve.runner.graph_shapes import graph_shapes
from glmserve.runner.limits import layer_bytes
from glmserve.runner.static_steps import StaticAttention, static_adapters
from glmserve.runner.torch_runner import TorchTarget

_LIBRARIES = 2**29
"""Bytes for what is not counted tensor by tensor: cuBLAS's workspaces (32 MiB on an H100, for the
stream of steps and for that of graphs), rotary tables, the code of kernels, and rounding and
fragmentation of the allocator."""
_SCORED_ROWS = 64
"""Rows of a scored prompt whose logits exist at the same time, see runner/logprobs.py."""


class StepMemory(NamedTuple):
    """Bytes of each part. Nothing of it is used for two parts: torch gives the memory that was
    allocated while a graph was recorded to graphs only."""

    step: int
    """Tensors of the largest step that runs kernel by kernel."""
    logits: int
    """The runner's logits, which all steps share; and what log-probabilities are computed in."""
    graphs: int
    """Tensors of the largest graph, and the arrays that all graphs share."""
    libraries: int

    @property
    def total(self) -> int:
        return sum(self)


def step_memory(
    config: RunnerConfig, model: ModelConfig, target: TorchTarget, max_step_tokens: int
) -> StepMemory:
    """What a rank's runner will take.

    Args:
        model: of the rank's part.
    """
    sequences, itemsize = config.batch_size, target.dtype.itemsize
    context = config.max_model_len or model.max_context
    largest = StepShape(
        tokens=max_step_tokens,
        decodes=sequences,
        prompts=sequences,
        sequences=sequences,
        outputs=sequences,
        context=context,
    )
    shared = float_bytes(sequences * model.vocab_size)
    # Rows of the logits in the activations' dtype; where log-probabilities are asked for, a copy
    # and its logarithms.
    rows = max(sequences, _SCORED_ROWS) * model.vocab_size
    scored = rows * itemsize + 2 * float_bytes(rows)
    return StepMemory(
        step=_step_bytes(model, target, largest),
        logits=shared + scored,
        graphs=_graph_bytes(config, model, target, max_step_tokens, context),
        libraries=_LIBRARIES,
    )


def float_bytes(count: int) -> int:
    """Bytes of so many float32 numbers."""
    return count * torch.float32.itemsize


def _step_bytes(model: ModelConfig, target: TorchTarget, shape: StepShape) -> int:
    """Bytes of a step up to its last hidden states."""
    found = _activation_bytes(model, target, shape.tokens)
    found += _product_bytes(model, target, shape)
    attention = target.ops.attention
    if isinstance(attention, StaticAttention):
        found += packed_bytes(attention.static_specs(shape))
        found += float_bytes(attention.scratch_size(shape))
    return found


def _graph_bytes(
    config: RunnerConfig,
    model: ModelConfig,
    target: TorchTarget,
    max_step_tokens: int,
    context: int,
) -> int:
    attention, itemsize = target.ops.attention, target.dtype.itemsize
    if config.pipeline_parallel_size > 1 or not isinstance(attention, StaticAttention):
        return 0
    shapes = graph_shapes(config.batch_size, max_step_tokens, context)
    planner = static_adapters(target.ops) if config.max_adapters else None
    specs = GraphSpecs(attention, planner, config.max_adapters)
    own = [
        _activation_bytes(model, target, shape.tokens)
        + _product_bytes(model, target, shape)
        + shape.outputs * model.vocab_size * itemsize
        for shape in shapes
    ]
    return specs.num_bytes(shapes) + max(own)


def _activation_bytes(model: ModelConfig, target: TorchTarget, tokens: int) -> int:
    """Bytes of a layer's activations in a step of up to `tokens` rows; if it has few, also of what
    their products need."""
    found, few_rows = layer_bytes(model, target.dtype.itemsize, tokens), target.ops.few_rows
    if few_rows is None:
        return found
    rows = min(tokens, few_rows.most_rows)
    scratch = few_rows.scratch_bytes(rows, model.hidden_size, model.head_dim)
    return max(found, layer_bytes(model, target.dtype.itemsize, rows) + scratch)


def _product_bytes(model: ModelConfig, target: TorchTarget, shape: StepShape) -> int:
    """Bytes of what the largest product takes beside its rows and its result; there is one at a
    time."""
    if target.quantization == "fp8":
        return _float8_bytes(model, target, shape)
    return _dequantized_bytes(model, target, shape)


def _float8_bytes(model: ModelConfig, target: TorchTarget, shape: StepShape) -> int:
    """Bytes of the codes of a product's rows, and of its result before it is converted."""
    found = 0
    for name, size in parameter_shapes(model).items():
        if is_layer_weight(name):
            found = max(found, product_bytes(shape.tokens, size, target.dtype))
        elif name == "output.weight":
            found = max(found, product_bytes(shape.outputs, size, target.dtype))
    return found


def _dequantized_bytes(model: ModelConfig, target: TorchTarget, shape: StepShape) -> int:
    """Bytes of the largest weight that is dequantised before a product."""
    sizes = {name: math.prod(shape) for name, shape in parameter_shapes(model).items()}
    least, found = target.ops.dequantizes_from, 0
    quantized = target.quantization is not None
    if (quantized or model.stored_bits or model.modelslim) and shape.tokens >= least:
        found = max((size for name, size in sizes.items() if is_layer_weight(name)), default=0)
    if quantized and shape.outputs >= least:
        found = max(found, sizes.get("output.weight", 0))
    return found * target.dtype.itemsize
