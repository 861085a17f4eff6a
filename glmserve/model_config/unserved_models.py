"""Refuses, by name, models of the same publisher that glmserve does not compute."""

from __future__ import annotations

import re

from glmserve.errors import CheckpointError
from glmserve.model_config.reader import ConfigReader

_EXPERTS = "a router and experts in place of the MLP"
_PICTURES = "an encoder of pictures, and requests with pictures"
_SOUND = "an encoder of sound, and requests with sound"
_LATENT = "attention over a compressed cache"
_LACKED = "which glmserve does not have"

_NEEDED = {
    "glm4_moe": _EXPERTS,
    "glm4_moe_lite": f"{_EXPERTS}, and {_LATENT}",
    "glm_moe_dsa": f"{_EXPERTS}, and {_LATENT} that chooses its tokens",
    "glm5_next": f"{_EXPERTS}, layers of linear attention, and {_PICTURES}",
    "glm4v": _PICTURES,
    "glm46v": _PICTURES,
    "glmga": _PICTURES,
    "glm4v_moe": f"{_EXPERTS}, and {_PICTURES}",
    "glm_ocr": _PICTURES,
    "glm_image": "a decoder of pictures",
    "glmasr": _SOUND,
    "cogvlm": f"{_PICTURES}, and weights of their own for the tokens of pictures",
    "cogvlm2": f"{_PICTURES}, and weights of their own for the tokens of pictures",
    "cogagent": f"{_PICTURES} in two resolutions",
}
"""What each model type would need; the types are those of transformers and of the publisher."""

_PARTS = {
    "vision_config": _PICTURES,
    "image_length": _PICTURES,
    "audio_config": _SOUND,
    "n_routed_experts": _EXPERTS,
    "num_experts": _EXPERTS,
    "num_local_experts": _EXPERTS,
}
"""Fields of models whose type is that of a served one: GLM-4V-9B, GLM-Edge-V, VisualGLM-6B."""


def refuse_type(reader: ConfigReader, model_type: str) -> None:
    """Refuse a model of a type that is known not to be served.

    Raises:
        CheckpointError: it is; the message names the type and what would be needed.
    """
    needed = _what_is_needed(model_type)
    if needed is not None:
        raise reader.refuse("model_type", f"not served: it needs {needed}, {_LACKED}")


def refuse_parts(reader: ConfigReader) -> None:
    """Refuse a model that has more parts than a language model.

    Raises:
        CheckpointError: it does; the message names the field and what would be needed.
    """
    for field, needed in _PARTS.items():
        if reader.value(field):
            raise CheckpointError(
                f"{reader.path}: {field}: the model is not served: it needs {needed}, {_LACKED}"
            )


def _what_is_needed(model_type: str) -> str | None:
    """What glmserve would need to serve a model of this type; None: it is not known."""
    # Later versions and parts have longer names, such as glm4v_moe_text.
    for known in sorted(_NEEDED, key=len, reverse=True):
        if re.match(rf"{known}(?![a-z0-9])", model_type):
            return _NEEDED[known]
    return None
