"""What in a checkpoint has no effect, for the operator."""

from __future__ import annotations

from collections.abc import Iterator

from glmserve.model_config import GenerationDefaults, ModelConfig

_MAX_FIELDS = 20  # of one file
_MAX_NAME_LENGTH = 100


def checkpoint_notes(model: ModelConfig, defaults: GenerationDefaults) -> Iterator[str]:
    """A sentence for each field and file without effect that may have been meant to have one."""
    for field in model.unknown_fields[:_MAX_FIELDS]:
        yield f"{model.path} has a field unknown here: {_shown(field)}"
    for field in defaults.ignored[:_MAX_FIELDS]:
        yield f"{_shown(field)} of generation_config.json has no effect"
    if (model.path.parent / "adapter_config.json").is_file():
        yield "the adapter in the checkpoint's folder is not applied; merge it into the model"


def _shown(name: str) -> str:
    return repr(name)[1:-1][:_MAX_NAME_LENGTH]
