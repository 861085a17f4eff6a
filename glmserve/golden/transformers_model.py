"""The weights of a checkpoint in transformers' own Glm classes: GlmForCausalLM, which is GLM-4's
block and, with the right numbers in its configuration, that of ChatGLM2, ChatGLM3 and CodeGeeX2;
and Glm4ForCausalLM, with sandwich norms. No code of the checkpoint runs.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from glmserve.config import ReportProgress
from glmserve.errors import OptionError
from glmserve.golden.reference import read_parameters
from glmserve.model_config import ModelConfig

SANDWICH = (("dense_norm", "post_self_attn_layernorm"), ("down_norm", "post_mlp_layernorm"))
"""Our names and transformers' of the sandwich norms."""

Attention = Literal["eager", "sdpa"]
"""transformers' implementation of attention: plain operations, or torch's own."""


def transformers_version(option: str) -> str:
    """The installed version.

    Args:
        option: what asks for transformers, for the error.

    Raises:
        OptionError: transformers is not installed.
    """
    try:
        import transformers
    except ImportError as error:
        raise OptionError(
            f"{option}: {error}; install it with pip install 'glmserve[bench]'"
        ) from error
    version: str = transformers.__version__
    return version


def load_transformers_model(
    config: ModelConfig,
    checkpoint: Path,
    dtype: torch.dtype,
    progress: ReportProgress,
    *,
    option: str,
    attention: Attention,
) -> Any:
    """A GlmForCausalLM or Glm4ForCausalLM with the checkpoint's weights, on the CPU.

    Args:
        option: what asks for transformers, for the error.

    Raises:
        OptionError: transformers has no class for this model.
        CheckpointError: see `load_weights`.
    """
    reason = _reason_against(config)
    if reason is not None:
        raise OptionError(f"{option}: its Glm class {reason}; leave the option out")
    from transformers import Glm4Config, Glm4ForCausalLM, GlmConfig, GlmForCausalLM

    kinds: Any = (GlmConfig, GlmForCausalLM)
    if config.sandwich_norms:
        kinds = (Glm4Config, Glm4ForCausalLM)
    weights = read_parameters(config, checkpoint, dtype, progress)
    with torch.device("meta"):
        model: Any = kinds[1](_glm_config(config, kinds[0], attention))
    model = model.to_empty(device="cpu").to(dtype).eval()
    # Buffers, the rotation's frequencies, are made anew: the meta device has no numbers.
    model.model.rotary_emb = type(model.model.rotary_emb)(config=model.config)
    model.load_state_dict(_state(config, weights), strict=True)
    return model


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


def _glm_config(config: ModelConfig, make: Any, attention: Attention) -> Any:
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
        attn_implementation=attention,
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
            *(SANDWICH if config.sandwich_norms else ()),
        ):
            state[f"{theirs}.{module}.weight"] = weights[f"{own}.{name}.weight"]
    return state
