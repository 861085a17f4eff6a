"""Applies --generation-config: what the checkpoint says about generating."""

from __future__ import annotations

from dataclasses import replace

from glmserve.model_config import GenerationDefaults, ModelConfig, read_generation_defaults


def with_generation_config(
    model: ModelConfig, option: str
) -> tuple[ModelConfig, GenerationDefaults]:
    """The model with the end tokens of its generation_config.json, and the defaults in it.

    Args:
        option: "auto", or "none" for a model as it is and no defaults.

    Raises:
        CheckpointError: the file is damaged, or a value is out of range.
    """
    if option == "none":
        return model, GenerationDefaults()
    defaults = read_generation_defaults(model.path.parent)
    ends = dict.fromkeys((*model.eos_token_ids, *defaults.eos_token_ids))
    return replace(model, eos_token_ids=tuple(ends)), defaults
