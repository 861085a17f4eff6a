"""A journal belongs to a number of ranks where their texts may differ."""

from __future__ import annotations

from pathlib import Path

import pytest

from glmserve.cli.journal import open_journal
from glmserve.config import EMBEDDED_CHECKPOINT, JournalConfig, Quantization, RunnerConfig
from glmserve.errors import StartupError
from glmserve.model_config import GenerationDefaults, read_model_config


async def open_and_close(folder: Path, size: int, quantization: Quantization | None) -> None:
    runner = RunnerConfig(
        checkpoint=str(EMBEDDED_CHECKPOINT), tensor_parallel_size=size, quantization=quantization
    )
    model = read_model_config(EMBEDDED_CHECKPOINT)
    journal = open_journal(JournalConfig(folder), model, runner, None, GenerationDefaults())
    await journal.close()


async def test_weights_that_each_rank_rounds(tmp_path: Path) -> None:
    await open_and_close(tmp_path, 1, "int8")
    with pytest.raises(StartupError, match="another model"):
        await open_and_close(tmp_path, 2, "int8")


async def test_weights_as_they_are(tmp_path: Path) -> None:
    await open_and_close(tmp_path, 1, None)
    await open_and_close(tmp_path, 2, None)
