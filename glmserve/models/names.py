"""Maps the stored tensors of a checkpoint, by name and layout, to canonical parameters."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from glmserve.model_config import ModelConfig
from glmserve.model_config.modelslim import SMOOTHED_NORMS, ModelSlim
from glmserve.model_config.stored_names import LAYER_MODULES, LAYERS, OUTPUT
from glmserve.models.parameters import Shape, stored_parameters


@dataclass(frozen=True, slots=True)
class Placement:
    """The place of a stored tensor: some rows of one parameter."""

    parameter: str
    first_row: int
    shape: Shape
    """Shape of the stored tensor."""
    heads: int = 0
    """Non-zero: the stored rows are q, k, v of head 0, then q, k, v of head 1, ... `copy` sorts
    them into all q, all k, all v."""
    rotary_runs: int = 0
    """Non-zero: the rows of each q and k head are so many runs, one for each of a token's
    positions. Stored are first all first numbers of the rotated pairs of a run, then all second
    ones: a0 a1 ... b0 b1 ... `copy` makes neighbours of them, a0 b0 a1 b1 ..., in q and k alike,
    which changes no product of q and k."""
    optional: bool = False
    """The checkpoint may lack the tensor."""
    dtype: torch.dtype | None = None
    """Dtype of the parameter; None: that of the activations."""
    accepts: tuple[torch.dtype, ...] | None = None
    """Dtypes of the stored tensor; None: `dtype`, or any floating point dtype. Numbers of float32
    that are stored as int64 are their bits."""

    @property
    def reorders(self) -> bool:
        """Whether rows change places while they are copied."""
        return bool(self.heads)

    def read(self, stored: Tensor) -> Tensor:
        """The stored numbers, in `shape`."""
        if stored.dtype == torch.int64:
            stored = stored.to(torch.int32).view(torch.float32)
        return stored.reshape(self.shape)

    def copy(self, stored: Tensor, parameter: Tensor) -> None:
        """Copy `stored` into its rows of `parameter`, and cast it."""
        rows = parameter.narrow(0, self.first_row, self.shape[0])
        stored = self.read(stored)
        if self.heads:
            columns = self.shape[1:]
            rows = rows.view(3, self.heads, -1, *columns)
            stored = stored.view(self.heads, 3, -1, *columns).transpose(0, 1)
        if self.rotary_runs:
            rows[:2].copy_(interleave_halves(stored[:2], 2, self.rotary_runs))
            rows, stored = rows[2], stored[2]
        rows.copy_(stored)


def interleave_halves(x: Tensor, dim: int, runs: int) -> Tensor:
    """Cut dimension `dim` into runs and interleave the halves of each: a0 a1 b0 b1 to a0 b0 a1
    b1."""
    halves = x.view(*x.shape[:dim], runs, 2, -1, *x.shape[dim + 1 :])
    return halves.transpose(dim + 1, dim + 2).flatten(dim, dim + 2)


def placements(config: ModelConfig) -> dict[str, Placement]:
    """Stored name to placement, for every tensor that the checkpoint may hold.

    With tied embeddings an output layer may be stored nevertheless. It is used then, as in
    transformers.
    """
    if config.model_type not in ("glm", "glm4"):
        return _thudm_placements(config)
    found = _hf_placements(config)
    if config.tied_embeddings:
        shape = (config.vocab_size, config.hidden_size)
        found["lm_head.weight"] = Placement("output.weight", 0, shape, optional=True)
    return found


def is_ignorable(config: ModelConfig, name: str) -> bool:
    """Whether the tensor is not needed.

    These are rotary frequencies, which older code saved and glmserve computes; and what ModelSlim
    keeps beside the parts of a module that glmserve reads: its bias, the weight of a smoothed norm,
    or the smoothed weight of one that is read by a module that was not quantised.
    """
    if name.endswith(".inv_freq"):
        return True
    if config.modelslim is None:
        return False
    module, _, kind = name.rpartition(".")
    module = module.removesuffix(".module")
    is_spare = kind in _SPARE or module.endswith("layernorm")
    known = placements(config)
    modules = {other.rpartition(".")[0].removesuffix(".module") for other in known}
    return is_spare and name not in known and module in modules


_THUDM_NAMES = {
    **LAYER_MODULES,
    "embedding": "transformer.embedding.word_embeddings",
    "final_norm": "transformer.encoder.final_layernorm",
    "output": OUTPUT,
}

_CHATGLM_6B_NAMES = {
    **_THUDM_NAMES,
    "embedding": "transformer.word_embeddings",
    "qkv": "attention.query_key_value",
    "dense": "attention.dense",
    "final_norm": "transformer.final_layernorm",
    "output": "lm_head",
}

_KINDS = {"codes": "weight", "scales": "weight_scale", "offsets": "weight_offset"}
_WHOLE = ("input_scale", "input_offset", "shift")
"""Parts of a linear module that do not belong to its rows."""
_SPARE = ("bias", "weight_scale", "weight_offset")
"""Tensors of a linear module that ModelSlim may keep."""

_HF_NAMES = {
    "embedding": "model.embed_tokens",
    "input_norm": "input_layernorm",
    "dense": "self_attn.o_proj",
    "dense_norm": "post_self_attn_layernorm",
    "post_norm": "post_attention_layernorm",
    "gate_up": "mlp.gate_up_proj",
    "down": "mlp.down_proj",
    "down_norm": "post_mlp_layernorm",
    "final_norm": "model.norm",
    "output": "lm_head",
}


def _thudm_placements(config: ModelConfig) -> dict[str, Placement]:
    """THUDM's own format: one stored tensor per parameter."""
    names, layers = _THUDM_NAMES, LAYERS
    if config.model_type == "chatglm-6b":
        names, layers = _CHATGLM_6B_NAMES, "transformer.layers"
    found = {}
    for parameter, stored in stored_parameters(config).items():
        layer, module, kind = _split(parameter)
        name = f"{names[module]}.{_KINDS.get(kind, kind)}"
        prefix = "" if layer is None else f"{layers}.{layer}."
        if config.modelslim is not None:
            name = _modelslim_name(config.modelslim, parameter) or name
        per_head = module == "qkv" and config.qkv_per_head and kind not in _WHOLE
        found[prefix + name] = Placement(
            parameter,
            0,
            stored.shape,
            heads=config.num_heads if per_head else 0,
            rotary_runs=config.rope.axes if per_head and config.rope.axes > 1 else 0,
            dtype=stored.dtype,
            accepts=stored.accepts,
        )
    return found


def _modelslim_name(modelslim: ModelSlim, parameter: str) -> str | None:
    """The stored name within a layer of what a smoothed norm has instead of its weight; None: the
    parameter is nothing of that kind."""
    layer, _, kind = parameter.rpartition(".")
    prefix, _, module = layer.rpartition(".")
    if kind == "shift":
        return f"{LAYER_MODULES[SMOOTHED_NORMS[module]]}.module.bias"
    if kind == "weight" and module in SMOOTHED_NORMS.values():
        (following,) = (m for m, norm in SMOOTHED_NORMS.items() if norm == module)
        if f"{prefix}.{following}" in modelslim.smoothed:
            return f"{LAYER_MODULES[module]}.module.weight"
    return None


def _hf_placements(config: ModelConfig) -> dict[str, Placement]:
    """transformers' in-tree Glm and Glm4: queries, keys and values are three stored tensors."""
    found = {}
    for parameter, stored in stored_parameters(config).items():
        layer, module, kind = _split(parameter)
        kind = _KINDS.get(kind, kind)
        prefix = "" if layer is None else f"model.layers.{layer}."
        if module != "qkv":
            placement = Placement(parameter, 0, stored.shape, dtype=stored.dtype)
            found[f"{prefix}{_HF_NAMES[module]}.{kind}"] = placement
            continue
        row = 0
        for letter, heads in (
            ("q", config.num_heads),
            ("k", config.num_kv_heads),
            ("v", config.num_kv_heads),
        ):
            part = (heads * config.head_dim, *stored.shape[1:])
            placement = Placement(parameter, row, part, dtype=stored.dtype)
            found[f"{prefix}self_attn.{letter}_proj.{kind}"] = placement
            row += part[0]
    return found


def _split(parameter: str) -> tuple[str | None, str, str]:
    """ "layers.3.qkv.bias" to ("3", "qkv", "bias"); the layer of other parameters is None."""
    *layers, module, kind = parameter.split(".")
    return (layers[1] if layers else None), module, kind
