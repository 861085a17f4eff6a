"""A second reference: transformers' own Glm classes, see `transformers_model.py`.

Nothing but the reading of checkpoints is shared with `reference.py`.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from glmserve.config import ReportProgress
from glmserve.golden.transformers_model import SANDWICH, load_transformers_model
from glmserve.model_config import ModelConfig
from glmserve.runner import tensor_names as names

OPTION = "--reference transformers"


class _Observed(NamedTuple):
    """A module, and the names of its input and its output."""

    module: torch.nn.Module
    before: str | None
    after: str


class TransformersReference:
    """The forward pass of one checkpoint, see `Reference` for the arguments.

    Raises:
        OptionError: transformers has no class for this model.
        CheckpointError: see `load_weights`.
    """

    def __init__(
        self, config: ModelConfig, checkpoint: Path, dtype: torch.dtype, progress: ReportProgress
    ) -> None:
        self._num_layers = config.num_layers
        self._model = load_transformers_model(
            config, checkpoint, dtype, progress, option=OPTION, attention="eager"
        )

    @torch.inference_mode()
    def tensors(self, token_ids: Sequence[int]) -> dict[str, Tensor]:
        """The tensors that the modules of transformers have as inputs or outputs."""
        found: dict[str, Tensor] = {}
        hooks = [
            module.register_forward_hook(_hook(found, before, after))
            for module, before, after in self._observed()
        ]
        try:
            output = self._model(torch.tensor([list(token_ids)]), use_cache=True)
        finally:
            for hook in hooks:
                hook.remove()
        cache = output["cache" if "cache" in output else "past_key_values"]  # its older name
        for layer in range(self._num_layers):
            parts = (found.pop(names.layer_tensor(layer, p)) for p in ("q", "k", "v"))
            found[names.layer_tensor(layer, "qkv")] = torch.cat(tuple(parts), dim=-1)
            cached = cache.layers[layer]
            for kind, states in (("key", cached.keys), ("value", cached.values)):
                found[names.layer_tensor(layer, kind)] = states[0].transpose(0, 1)
        found[names.LOGITS] = output.logits[0]
        return found

    def _observed(self) -> list[_Observed]:
        """Modules, and the names of their inputs and outputs."""
        model = self._model.model
        found = [_Observed(model.embed_tokens, None, names.EMBEDDING)]
        for index, layer in enumerate(model.layers):
            attention, mlp = layer.self_attn, layer.mlp
            found += [
                _Observed(
                    module,
                    None if before is None else names.layer_tensor(index, before),
                    names.layer_tensor(index, after),
                )
                for module, before, after in (
                    (layer.input_layernorm, "input", "input_norm"),
                    (attention.q_proj, None, "q"),
                    (attention.k_proj, None, "k"),
                    (attention.v_proj, None, "v"),
                    (attention.o_proj, "attention", "dense"),
                    (layer.post_attention_layernorm, "middle", "post_norm"),
                    (mlp.gate_up_proj, None, "gate_up"),
                    (mlp.down_proj, "activation", "down"),
                    *_sandwich_norms(layer),
                )
            ]
        return [*found, _Observed(model.norm, names.STREAM, names.FINAL_NORM)]


def _sandwich_norms(layer: Any) -> list[tuple[torch.nn.Module, None, str]]:
    return [(getattr(layer, m), None, name) for name, m in SANDWICH if hasattr(layer, m)]


def _hook(found: dict[str, Tensor], before: str | None, after: str) -> Any:
    def record(module: torch.nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        if before is not None:
            found[before] = inputs[0][0].clone()
        found[after] = output[0].clone()

    return record
