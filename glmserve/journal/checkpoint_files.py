"""Where the files of a model are."""

from __future__ import annotations

from pathlib import Path

from glmserve.config import RunnerConfig


def checkpoint_folders(runner: RunnerConfig) -> list[Path]:
    """Folders of the checkpoint and of the P-Tuning prefix."""
    paths = map(Path, filter(None, (runner.checkpoint, runner.ptuning_checkpoint)))
    return [path if path.is_dir() else path.parent for path in paths]


def checkpoint_file(runner: RunnerConfig) -> str | None:
    """Name of the weights file, if the checkpoint is a file."""
    path = Path(runner.checkpoint)
    return path.name if path.is_file() else None
