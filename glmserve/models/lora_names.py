"""Maps the tensors of a LoRA adapter, by the names that trainers write, to canonical modules."""

from __future__ import annotations

import re
from typing import Literal, NamedTuple

from torch import Tensor

from glmserve.model_config import ModelConfig
from glmserve.model_config.stored_names import LAYER_MODULES
from glmserve.models.names import Placement
from glmserve.models.parameters import parameter_shapes

_WRAPPERS = ("module", "_orig_mod", "base_model")
"""Names that trainers put before a model's own: of DistributedDataParallel, torch.compile, PEFT."""
_LAYER = re.compile(r"(?:(?:model|transformer|encoder)\.)*layers\.(\d+)\.(.+)")
_PARTS = ("lora_A", "lora_B", "lora_magnitude_vector")


class LoraName(NamedTuple):
    """The parts of a stored name such as
    "base_model.model.transformer.encoder.layers.0.self_attention.dense.lora_A.default.weight"."""

    module: str
    """The module's name in the trained model: what the patterns of adapter_config.json match."""
    part: Literal["lora_A", "lora_B", "lora_magnitude_vector"]
    kind: Literal["weight", "bias"]
    adapter: str
    """The adapter's name; empty: it has none."""


class Target(NamedTuple):
    """Where a trainer's module is in a canonical one."""

    module: str
    """Name within the layer: qkv, dense, gate_up, down."""
    first_row: int
    rows: int
    columns: int
    heads: int = 0
    rotary_runs: int = 0
    """See Placement."""

    def place(self, stored: Tensor, whole: Tensor) -> None:
        """Copy rows of the trainer's module to their places.

        Args:
            stored: [rows, ...]
            whole: [N, ...], of the canonical module.
        """
        placement = Placement("", self.first_row, tuple(stored.shape), self.heads, self.rotary_runs)
        placement.copy(stored, whole)


def parse_lora_name(name: str) -> LoraName | None:
    """The parts of a tensor's name; None: it is none of LoRA's for a linear module."""
    words = trained_name(name).split(".")
    kind = words.pop() if words[-1] in ("weight", "bias") else "weight"
    at = next((i for i, word in enumerate(words) if word in _PARTS), None)
    if not at or len(words) > at + 2:
        return None
    adapter = words[at + 1] if len(words) > at + 1 else ""
    return LoraName(".".join(words[:at]), words[at], kind, adapter)  # type: ignore[arg-type]


def trained_name(name: str) -> str:
    """A stored name without what wrappers of the model put before it."""
    while True:
        wrapper, dot, rest = name.partition(".")
        if wrapper not in _WRAPPERS or not dot:
            return name
        # PEFT has two wrappers: base_model.model.
        name = rest.removeprefix("model.") if wrapper == "base_model" else rest


def layer_module(module: str) -> tuple[int, str] | None:
    """ "transformer.encoder.layers.3.mlp.dense_h_to_4h" to (3, "mlp.dense_h_to_4h"); None: it is in
    no layer."""
    found = _LAYER.fullmatch(module)
    return (int(found[1]), found[2]) if found else None


def lora_targets(config: ModelConfig) -> dict[str, Target]:
    """The modules of a layer that adapters may change, by their names within the layer.

    Checkpoints of the second and later generations exist in the publisher's format and as `-hf`,
    with the same weights. So an adapter that was trained on one fits the other.

    Args:
        config: of the whole model.
    """
    targets = _thudm_targets(config)
    if config.model_type != "chatglm-6b":
        targets |= _hf_targets(config)
    return targets


def _thudm_targets(config: ModelConfig) -> dict[str, Target]:
    first_generation = config.model_type == "chatglm-6b"
    per_head = config.qkv_per_head
    found = {}
    for module in ("qkv", "dense", "gate_up", "down"):
        rows, columns = _shape(config, module)
        name = LAYER_MODULES[module]
        if first_generation:
            name = name.replace("self_attention.", "attention.")
        is_sorted = module == "qkv" and per_head
        found[name] = Target(
            module,
            0,
            rows,
            columns,
            heads=config.num_heads if is_sorted else 0,
            rotary_runs=config.rope.axes if is_sorted and config.rope.axes > 1 else 0,
        )
    return found


def _hf_targets(config: ModelConfig) -> dict[str, Target]:
    hidden, queries = config.hidden_size, config.num_heads * config.head_dim
    keys, ffn = config.num_kv_heads * config.head_dim, config.ffn_size
    found = {
        "self_attn.q_proj": Target("qkv", 0, queries, hidden),
        "self_attn.k_proj": Target("qkv", queries, keys, hidden),
        "self_attn.v_proj": Target("qkv", queries + keys, keys, hidden),
        "self_attn.o_proj": Target("dense", 0, *_shape(config, "dense")),
        "mlp.gate_up_proj": Target("gate_up", 0, *_shape(config, "gate_up")),
        "mlp.down_proj": Target("down", 0, *_shape(config, "down")),
    }
    if config.gated_ffn:
        found["mlp.gate_proj"] = Target("gate_up", 0, ffn, hidden)
        found["mlp.up_proj"] = Target("gate_up", ffn, ffn, hidden)
    return found


def _shape(config: ModelConfig, module: str) -> tuple[int, int]:
    rows, columns = parameter_shapes(config)[f"layers.{config.first_layer}.{module}.weight"]
    return rows, columns
