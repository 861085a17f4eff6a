"""Checks that a checkpoint's weights are complete: names, shapes and dtypes, not the numbers."""

from __future__ import annotations

from pathlib import Path

import torch

from glmserve.config import report_nothing
from glmserve.contract.diagnosis import Weights
from glmserve.errors import CheckpointError
from glmserve.graphs.manifest import check_files, is_compiled, read_manifest
from glmserve.model_config import ModelConfig
from glmserve.model_config.reader import read_json_object
from glmserve.models.checkpoint_files import weight_files
from glmserve.models.prefix import load_prefix
from glmserve.models.weights import stored_tensors


def look_at_weights(model: ModelConfig, checkpoint: Path) -> Weights:
    """Find the errors that loading would raise, by the same code. Tensors are memory-mapped, not
    read."""
    if is_compiled(checkpoint):
        return _look_at_compiled(checkpoint)
    try:
        files = list(weight_files(checkpoint))
    except CheckpointError as error:
        return Weights(0, 0, _all_missing_files(checkpoint) or error.message)
    size = sum(path.stat().st_size for path in files if path.is_file())
    try:
        for _ in stored_tensors(model, checkpoint):
            pass
        if model.prefix is not None:
            load_prefix(model, model.prefix, torch.float32)
    except CheckpointError as error:
        return Weights(len(files), size, error.message)
    except OSError as error:
        return Weights(len(files), size, f"{error.filename}: cannot be read: {error.strerror}")
    except RuntimeError as error:  # torch's, where a file cannot be mapped into memory
        return Weights(len(files), size, " ".join(str(error).split()))
    return Weights(len(files), size, "")


def _look_at_compiled(folder: Path) -> Weights:
    """Compare all files with the folder's manifest."""
    try:
        manifest = read_manifest(folder)
        files, size = len(manifest.files), sum(file.size for file in manifest.files.values())
        check_files(folder, manifest, report_nothing)
    except CheckpointError as error:
        return Weights(0, 0, error.message)
    return Weights(files, size, "")


def _all_missing_files(checkpoint: Path) -> str:
    """A message with all files that an index lists and that do not exist; empty: none is
    missing."""
    for index in sorted(checkpoint.glob("*.index.json")):
        promised = read_json_object(index).get("weight_map")
        names = set(promised.values()) if isinstance(promised, dict) else set()
        missing = sorted(
            name for name in names if isinstance(name, str) and not (checkpoint / name).is_file()
        )
        if missing:
            return (
                f"{checkpoint}: {len(missing)} of {len(names)} weight files are missing, which "
                f"{index.name} names: {', '.join(missing)}"
            )
    return ""
