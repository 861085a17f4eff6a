"""An engine that only measurements use."""

from __future__ import annotations

import argparse
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from typing import TYPE_CHECKING

from glmserve.config import RunnerConfig, SchedulerConfig, SupervisionConfig
from glmserve.errors import OptionError

if TYPE_CHECKING:
    from glmserve.capacity.measuring import Measuring


def check_model(options: argparse.Namespace, runner: RunnerConfig) -> None:
    """Refuse models that cannot be measured, before they load.

    Raises:
        OptionError: the model's prompts have a layout, or it cannot be cut into so many ranks.
        CheckpointError: its config cannot be read.
    """
    from glmserve.model_config import read_model_config
    from glmserve.model_config.sharding import check_sizes

    model = read_model_config(options.checkpoint, options.rope_scaling, runner.ptuning_checkpoint)
    check_sizes(model, runner.tensor_parallel_size, runner.pipeline_parallel_size)
    if model.prompt_marks is not None:
        raise OptionError(
            f"{options.checkpoint}: prompts of this model need a layout, which these measurements "
            "do not make"
        )


@asynccontextmanager
async def measuring(options: argparse.Namespace, runner: RunnerConfig) -> AsyncIterator[Measuring]:
    """An engine with the model, and what measures it.

    Raises:
        StartupError: the model cannot be loaded.
    """
    from glmserve.capacity.measuring import Measuring
    from glmserve.cli.announce import LoadingBar
    from glmserve.engine import Engine
    from glmserve.executor import ProcessExecutor
    from glmserve.model_config import read_model_config

    scheduler = SchedulerConfig(
        max_batch_size=options.max_batch_size,
        max_step_tokens=options.max_step_tokens,
        max_step_time=0,  # prompts beside decodes are measured by their tokens
        prefix_cache=False,
    )
    engine = Engine(
        ProcessExecutor(runner, SupervisionConfig()), scheduler, hash_key=secrets.token_bytes(32)
    )
    try:
        with closing(LoadingBar()) as bar:
            await engine.start(bar.update)
        vocab_size = read_model_config(options.checkpoint).vocab_size
        yield Measuring(engine, vocab_size, print)
    finally:
        await engine.close()
