"""A journal belongs to a number of ranks where their texts may differ."""

from __future__ import annotations

from pathlib import Path

import pytest

from glmserve.cli.journal import open_journal
from glmserve.config import EMBEDDED_CHECKPOINT, JournalConfig, Quantization, RunnerConfig
from glmserve.errors import StartupError
from glmserve.model_config import GenerationDefaults, read_model_config


async def open_and_close(
    folder: Path, size: int, quantization: Quantization | None, stages: int = 1
) -> None:
    runner = RunnerConfig(
        checkpoint=str(EMBEDDED_CHECKPOINT),
        tensor_parallel_size=size,
        pipeline_parallel_size=stages,
        quantization=quantization,
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


async def test_stages_round_as_one_process_does(tmp_path: Path) -> None:
    await open_and_close(tmp_path, 1, "int8")
    await open_and_close(tmp_path, 1, "int8", stages=2)
