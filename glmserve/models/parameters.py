"""Canonical names and shapes of a model's parameters; checkpoints have names of their own."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import torch

from glmserve.config import Quantization, WeightBits
from glmserve.model_config import ModelConfig
from glmserve.model_config.modelslim import ModelSlim

Parameters = dict[str, Any]
"""Canonical name to a Tensor, or to the PackedWeight of a linear module."""

Shape = tuple[int, ...]

_FLOATS = (torch.float32, torch.float16, torch.bfloat16)

LINEAR_MODULES = frozenset({"qkv", "dense", "gate_up", "down", "output"})
"""Modules with a linear weight."""


def parameter_shapes(config: ModelConfig) -> dict[str, Shape]:
    """Name and shape of every parameter of the model, or of a rank's part.

    `output.weight` is absent with tied embeddings; `qkv` rows are all query heads, all key heads,
    all value heads; `gate_up` rows are the gate, if there is one, then the up projection.
    """
    vocabulary: Shape = (config.vocab_rows, config.hidden_size)
    shapes: dict[str, Shape] = {"embedding.weight": vocabulary} if config.has_embedding else {}
    for i in config.layers:
        for name, shape in _layer_shapes(config).items():
            shapes[f"layers.{i}.{name}"] = shape
    if config.stage.is_last:
        if config.final_norm:
            shapes |= _norm_shapes(config, "final_norm")
        if not config.tied_embeddings:
            shapes["output.weight"] = vocabulary
    return shapes


def is_held(config: ModelConfig, name: str) -> bool:
    """Whether a rank holds some of a parameter of the model.

    Args:
        config: of the rank's part.
        name: canonical name of a stored parameter.
    """
    first, *more = name.split(".")
    match first:
        case "layers":
            return int(more[0]) in config.layers
        case "embedding":
            return config.has_embedding
    return config.stage.is_last


QUANTIZED_BITS: dict[Quantization | None, WeightBits] = {
    "int8": 8,
    "int4": 4,
    "w8a8": 8,
    "w4a8": 4,
    "fp8": 8,
}
"""Bits of the layers' linear weights by --quantization. The output layer always gets 8 bits."""


INT4_GROUP = 64
"""Columns that share a scale when weights are quantised to 4 bits while loading. Fewer columns are
more exact and take more memory."""


_SMALLER_INT4_GROUPS = (32, 16)
"""For weights that are cut over ranks so that groups of 64 would be cut."""


def int4_group(columns: int, *, is_cut: bool = False) -> int | None:
    """Columns that share a scale when a weight is quantised to 4 bits while loading; None: all.

    Args:
        columns: of the weight, or of a rank's part of it.
        is_cut: columns are cut over ranks.
    """
    sizes = (INT4_GROUP, *_SMALLER_INT4_GROUPS) if is_cut else (INT4_GROUP,)
    return next((size for size in sizes if columns % size == 0), None)


class StoredParameter(NamedTuple):
    """A parameter as the checkpoint has it."""

    shape: Shape
    dtype: torch.dtype | None
    """None: the dtype of the activations."""
    accepts: tuple[torch.dtype, ...] | None = None
    """Dtypes in which it may be stored; None: `dtype`, or any floating point dtype."""


def stored_parameters(config: ModelConfig) -> dict[str, StoredParameter]:
    """Name, shape and dtype of every parameter that a checkpoint holds.

    In place of the `weight` of a layer's linear module, quantised checkpoints hold its `codes` int8
    [out, in] (4 bits: [out, in/2]) and its `scales` float16 [out], or of groups of columns
    [out, groups].
    """
    if config.modelslim is not None:
        return _modelslim_parameters(config, config.modelslim)
    found: dict[str, StoredParameter] = {}
    for name, shape in parameter_shapes(config).items():
        if config.stored_bits is None or not is_layer_weight(name):
            found[name] = StoredParameter(shape, None)
            continue
        module = name.removesuffix(".weight")
        rows, columns = shape
        packed = columns * config.stored_bits // 8
        group_size = config.stored_group_size
        scales = (rows,) if group_size is None else (rows, columns // group_size)
        found[f"{module}.codes"] = StoredParameter((rows, packed), torch.int8)
        found[f"{module}.scales"] = StoredParameter(scales, torch.float16)
    return found


def _modelslim_parameters(config: ModelConfig, modelslim: ModelSlim) -> dict[str, StoredParameter]:
    """`stored_parameters` of a checkpoint that ModelSlim quantised."""
    found: dict[str, StoredParameter] = {}
    for name, shape in parameter_shapes(config).items():
        module, _, kind = name.rpartition(".")
        if kind == "weight" and module.rpartition(".")[2] in LINEAR_MODULES:
            parts = modelslim_parts(modelslim, module, shape)
            found |= {f"{module}.{part}": stored for part, stored in parts.items()}
        elif kind != "bias" or modelslim.kind(module) != "W8A8":  # its bias is in quant_bias
            found[name] = StoredParameter(shape, None)
    return found


def modelslim_parts(modelslim: ModelSlim, module: str, shape: Shape) -> dict[str, StoredParameter]:
    """The stored parts of a linear module's weight [N, K], by name within the module."""
    kind = modelslim.kind(module)
    rows, columns = shape
    if kind == "FLOAT":
        return {"weight": StoredParameter(shape, None)}
    wide = torch.float32
    found = {"codes": StoredParameter(shape, torch.int8)}
    if kind == "W8A8":
        found["deq_scale"] = StoredParameter((rows,), wide, (*_FLOATS, torch.int64))
        found["quant_bias"] = StoredParameter((rows,), torch.int32)
        found["input_scale"] = StoredParameter((1,), wide, _FLOATS)
        found["input_offset"] = StoredParameter((1,), wide, (*_FLOATS, torch.int8))
    else:
        found["scales"] = StoredParameter((rows,), wide, _FLOATS)
        found["offsets"] = StoredParameter((rows,), wide, _FLOATS)
    if module in modelslim.smoothed:
        found["shift"] = StoredParameter((columns,), wide, _FLOATS)
    return found


def is_layer_weight(name: str) -> bool:
    """Whether quantised checkpoints hold this parameter as codes: a layer's linear weight."""
    module, _, kind = name.rpartition(".")
    return kind == "weight" and module.rpartition(".")[2] in LINEAR_MODULES - {"output"}


def is_cut(config: ModelConfig, name: str) -> bool:
    """Whether the columns of this weight are cut over ranks."""
    return config.shard.size > 1 and name.endswith((".dense.weight", ".down.weight"))


def count_parameters(config: ModelConfig) -> int:
    """Count of the numbers in all parameters."""
    return sum(math.prod(shape) for shape in parameter_shapes(config).values())


def weight_bytes(config: ModelConfig, itemsize: int, quantization: Quantization | None) -> int:
    """Bytes of all parameters in memory, scales included, up to the padding of packed layouts.

    Args:
        itemsize: bytes of a floating point number.
        quantization: what unquantised linear weights become.
    """
    layer_bits = config.stored_bits or QUANTIZED_BITS.get(quantization)
    total = 0
    for name, shape in parameter_shapes(config).items():
        bits, scales = 8 * itemsize, 0
        if config.modelslim is not None:
            if _is_quantized(config.modelslim, name):
                bits, scales = 8, shape[0]
        elif layer_bits and is_layer_weight(name):
            group_size = config.stored_group_size
            if config.stored_bits is None and layer_bits == 4:
                group_size = int4_group(shape[1], is_cut=is_cut(config, name))
            bits, scales = layer_bits, shape[0] * (shape[1] // (group_size or shape[1]))
        elif quantization and name == "output.weight":
            bits, scales = 8, shape[0]
        total += math.prod(shape) * bits // 8 + scales * torch.float32.itemsize
    return total


def _is_quantized(modelslim: ModelSlim, name: str) -> bool:
    module, _, kind = name.rpartition(".")
    return kind == "weight" and modelslim.kind(module) != "FLOAT"


def _layer_shapes(config: ModelConfig) -> dict[str, Shape]:
    hidden, queries = config.hidden_size, config.num_heads * config.head_dim
    key_values = 2 * config.num_kv_heads * config.head_dim
    gate_up = 2 * config.ffn_size if config.gated_ffn else config.ffn_size
    return {
        **_norm_shapes(config, "input_norm"),
        **_linear_shapes("qkv", queries + key_values, hidden, bias=config.qkv_bias),
        **_linear_shapes("dense", hidden, queries, bias=config.linear_bias),
        **(_norm_shapes(config, "dense_norm") if config.sandwich_norms else {}),
        **_norm_shapes(config, "post_norm"),
        **_linear_shapes("gate_up", gate_up, hidden, bias=config.linear_bias),
        **_linear_shapes("down", hidden, config.ffn_size, bias=config.linear_bias),
        **(_norm_shapes(config, "down_norm") if config.sandwich_norms else {}),
    }


def _linear_shapes(name: str, rows: int, columns: int, *, bias: bool) -> dict[str, Shape]:
    shapes: dict[str, Shape] = {f"{name}.weight": (rows, columns)}
    if bias:
        shapes[f"{name}.bias"] = (rows,)
    return shapes


def _norm_shapes(config: ModelConfig, name: str) -> dict[str, Shape]:
    shapes: dict[str, Shape] = {f"{name}.weight": (config.hidden_size,)}
    if config.norm == "layernorm":
        shapes[f"{name}.bias"] = (config.hidden_size,)
    return shapes
