"""A second reference: transformers' own GlmForCausalLM, which is GLM-4's block and, with the right
numbers in its configuration, that of ChatGLM2, ChatGLM3 and CodeGeeX2; and Glm4ForCausalLM, with
sandwich norms.

Nothing but the reading of checkpoints is shared with `reference.py`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from glmserve.config import ReportProgress
from glmserve.errors import OptionError
from glmserve.golden.reference import read_parameters
from glmserve.model_config import ModelConfig
from glmserve.runner import tensor_names as names

_OPTION = "--reference transformers"

_SANDWICH = (("dense_norm", "post_self_attn_layernorm"), ("down_norm", "post_mlp_layernorm"))
"""Our names and transformers' of the sandwich norms."""


def transformers_version() -> str:
    """The installed version.

    Raises:
        OptionError: transformers is not installed.
    """
    try:
        import transformers
    except ImportError as error:
        raise OptionError(
            f"{_OPTION}: {error}; install it with pip install 'glmserve[bench]'"
        ) from error
    version: str = transformers.__version__
    return version


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
        reason = _reason_against(config)
        if reason is not None:
            raise OptionError(f"{_OPTION}: its Glm class {reason}; leave the option out")
        from transformers import Glm4Config, Glm4ForCausalLM, GlmConfig, GlmForCausalLM

        kinds: Any = (GlmConfig, GlmForCausalLM)
        if config.sandwich_norms:
            kinds = (Glm4Config, Glm4ForCausalLM)
        self._num_layers = config.num_layers
        weights = read_parameters(config, checkpoint, dtype, progress)
        with torch.device("meta"):
            model: Any = kinds[1](_glm_config(config, kinds[0]))
        model = model.to_empty(device="cpu").to(dtype).eval()
        # Buffers, the rotation's frequencies, are made anew: the meta device has no numbers.
        model.model.rotary_emb = type(model.model.rotary_emb)(config=model.config)
        model.load_state_dict(_state(config, weights), strict=True)
        self._model = model

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
    return [(getattr(layer, m), None, name) for name, m in _SANDWICH if hasattr(layer, m)]


def _hook(found: dict[str, Tensor], before: str | None, after: str) -> Any:
    def record(module: torch.nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        if before is not None:
            found[before] = inputs[0][0].clone()
        found[after] = output[0].clone()

    return record


def _reason_against(config: ModelConfig) -> str | None:
    """Why transformers' class cannot compute this model; None: it can."""
    reasons = (
        (config.model_type == "chatglm-6b", "is not ChatGLM-6B's block"),
        (config.prefix is not None, "has no P-Tuning prefix"),
        (config.norm != "rmsnorm", "has RMSNorm only"),
        (not config.final_norm, "always has a last norm"),
        (config.residual_post_norm, "adds to the stream, not to the normed tensor"),
        (config.linear_bias, "has no biases in its MLP"),
    )
    return next((text for applies, text in reasons if applies), None)


def _glm_config(config: ModelConfig, make: Any) -> Any:
    """The same model as a configuration of transformers, made by one of its classes."""
    rope = config.rope
    parameters: dict[str, Any] = {
        "rope_type": "default",
        "rope_theta": rope.base,
        "partial_rotary_factor": rope.dim / config.head_dim,
    }
    if rope.position_divisor != 1:
        parameters |= {"rope_type": "linear", "factor": rope.position_divisor}
    if rope.yarn is not None:
        yarn = dataclasses.asdict(rope.yarn)
        yarn["original_max_position_embeddings"] = yarn.pop("original_context")
        parameters |= {"rope_type": "yarn", **yarn}
    return make(
        vocab_size=config.vocab_size,
        hidden_size=config.hidden_size,
        intermediate_size=config.ffn_size,
        num_hidden_layers=config.num_layers,
        num_attention_heads=config.num_heads,
        num_key_value_heads=config.num_kv_heads,
        head_dim=config.head_dim,
        attention_bias=config.qkv_bias,
        rms_norm_eps=config.norm_eps,
        tie_word_embeddings=config.tied_embeddings,
        max_position_embeddings=config.max_context,
        rope_parameters=parameters,
        pad_token_id=0,
        attn_implementation="eager",
    )


def _state(config: ModelConfig, weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """The parameters by transformers' names."""
    ends = [n * config.head_dim for n in (config.num_heads, config.num_heads + config.num_kv_heads)]
    state = {
        "model.embed_tokens.weight": weights["embedding.weight"],
        "model.norm.weight": weights["final_norm.weight"],
        "lm_head.weight": weights.get("output.weight", weights["embedding.weight"]),
    }
    for layer in range(config.num_layers):
        own, theirs = f"layers.{layer}", f"model.layers.{layer}"
        for kind in ("weight", "bias") if config.qkv_bias else ("weight",):
            parts = weights[f"{own}.qkv.{kind}"].tensor_split(ends)
            for name, part in zip("qkv", parts, strict=True):
                state[f"{theirs}.self_attn.{name}_proj.{kind}"] = part
        for name, module in (
            ("input_norm", "input_layernorm"),
            ("dense", "self_attn.o_proj"),
            ("post_norm", "post_attention_layernorm"),
            ("gate_up", "mlp.gate_up_proj"),
            ("down", "mlp.down_proj"),
            *(_SANDWICH if config.sandwich_norms else ()),
        ):
            state[f"{theirs}.{module}.weight"] = weights[f"{own}.{name}.weight"]
    return state
