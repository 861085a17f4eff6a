"""Detects the format of a config.json and reads it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from glmserve.config import RopeScaling
from glmserve.errors import CheckpointError
from glmserve.model_config.chatglm import read_chatglm
from glmserve.model_config.chatglm_6b import read_chatglm_6b
from glmserve.model_config.config import ModelConfig
from glmserve.model_config.glm import read_glm
from glmserve.model_config.modelslim import ModelSlim, read_modelslim
from glmserve.model_config.prefix import read_prefix_config
from glmserve.model_config.reader import ConfigReader, locate_config
from glmserve.model_config.unserved import refuse_adapter, refuse_foreign_quantization
from glmserve.model_config.unserved_models import refuse_parts, refuse_type

MODEL_TYPES = ("chatglm", "glm", "glm4")


def read_model_config(
    checkpoint: Path,
    rope_scaling: RopeScaling | None = None,
    ptuning_checkpoint: str | None = None,
) -> ModelConfig:
    """Read and check a checkpoint's architecture.

    Args:
        checkpoint: folder, or one weights file with config.json beside it.
        rope_scaling: the meaning of rope_ratio; None: it is derived from the checkpoint.
        ptuning_checkpoint: path of a P-Tuning v2 prefix for this model.

    Raises:
        CheckpointError: a field is missing, of a wrong type, or not supported.
    """
    refuse_adapter(checkpoint if checkpoint.is_dir() else checkpoint.parent)
    config = _read_architecture(ConfigReader(locate_config(checkpoint)), rope_scaling)
    if ptuning_checkpoint is None:
        return config
    return replace(config, prefix=read_prefix_config(Path(ptuning_checkpoint)))


def _read_architecture(reader: ConfigReader, rope_scaling: RopeScaling | None) -> ModelConfig:
    refuse_type(reader, reader.text("model_type"))
    refuse_parts(reader)
    refuse_foreign_quantization(reader)
    quantize = reader.text("quantize") if "quantize" in reader else None
    config = _read_by_type(reader, rope_scaling)
    modelslim = read_modelslim(reader.path.parent, quantize, config.num_layers)
    if modelslim is None:
        return config
    _check_modelslim(config, modelslim)
    return replace(config, modelslim=modelslim, stored_bits=8)


def _read_by_type(reader: ConfigReader, rope_scaling: RopeScaling | None) -> ModelConfig:
    model_type = reader.text("model_type")
    if model_type == "chatglm":
        is_first = "inner_hidden_size" in reader or "position_encoding_2d" in reader
        return read_chatglm_6b(reader) if is_first else read_chatglm(reader, rope_scaling)
    if model_type in ("glm", "glm4"):
        return read_glm(reader, "glm" if model_type == "glm" else "glm4")
    raise reader.refuse("model_type", f"not served; known types: {', '.join(MODEL_TYPES)}")


def _check_modelslim(config: ModelConfig, modelslim: ModelSlim) -> None:
    """Refuse what a model cannot have together with ModelSlim's weights."""
    if config.model_type != "chatglm":
        raise CheckpointError(
            f"{modelslim.description}: glmserve reads ModelSlim's weights for ChatGLM2, ChatGLM3 "
            "and GLM-4 in THUDM's format only"
        )
    if config.stored_bits is not None:
        raise CheckpointError(
            f"{modelslim.description}: quantization_bit in config.json contradicts it"
        )
    if modelslim.smoothed and config.norm != "rmsnorm":
        raise CheckpointError(
            f"{modelslim.description}: smoothed norms are read if they are RMSNorms, and "
            "rmsnorm is false in config.json"
        )
    if modelslim.smoothed and config.residual_post_norm:
        raise CheckpointError(
            f"{modelslim.description}: smoothed norms cannot be residuals as well, as "
            "apply_residual_connection_post_layernorm asks"
        )
