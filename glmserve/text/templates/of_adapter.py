"""Chat templates that trainers leave beside an adapter. They are not used."""

from __future__ import annotations

import logging
from pathlib import Path

from glmserve.errors import CheckpointError
from glmserve.text.templates.files import find_templates

logger = logging.getLogger(__name__)


def note_template(adapter: Path, model: Path) -> None:
    """Log it if an adapter's folder has another chat template than its model's.

    The adapter may have been trained with it, and conversations are written as for the model.

    Args:
        adapter, model: their folders.
    """
    try:
        own, models = find_templates(adapter), find_templates(model)
    except (CheckpointError, OSError):
        return  # such files of an adapter are ignored
    if own is not None and (models is None or own.sources != models.sources):
        logger.warning(
            "%s has another chat template than the model. Conversations are written as for the "
            "model; if the adapter was trained with its own, start a server with --chat-template "
            "for it",
            own.path,
        )
