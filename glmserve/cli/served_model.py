"""Reads what a server needs of a checkpoint before it starts: all but the weights."""

from __future__ import annotations

import argparse
import sys
from dataclasses import dataclass
from pathlib import Path

from glmserve.cli.checkpoint_notes import checkpoint_notes
from glmserve.cli.generation_config import with_generation_config
from glmserve.cli.text_layer import chat_options, limit_vocabulary, load_text_layer
from glmserve.config import RunnerConfig
from glmserve.model_config import GenerationDefaults, ModelConfig, read_model_config
from glmserve.model_config.sharding import check_sizes
from glmserve.text import Tokenizer
from glmserve.text.templates.selection import SelectedFormat


@dataclass(frozen=True)
class ServedModel:
    """A model without its weights, and how it reads and writes text."""

    model: ModelConfig
    runner: RunnerConfig
    """With the vocabulary that the tokenizer has."""
    defaults: GenerationDefaults
    tokenizer: Tokenizer | None
    """None with --skip-tokenizer-init."""
    selected: SelectedFormat


def read_served_model(options: argparse.Namespace, runner: RunnerConfig) -> ServedModel:
    """Read the checkpoint, and print notes on what in it has no effect.

    Raises:
        OptionError: there is no chat format of this name, or the model cannot be cut into so many
            parts.
        CheckpointError: the checkpoint cannot be served.
    """
    checkpoint = Path(runner.checkpoint)
    model = read_model_config(checkpoint, runner.rope_scaling, runner.ptuning_checkpoint)
    check_sizes(model, runner.tensor_parallel_size, runner.pipeline_parallel_size)
    model, defaults = with_generation_config(model, options.generation_config)
    for note in checkpoint_notes(model, defaults):
        print(f"glmserve: note: {note}", file=sys.stderr)
    if options.skip_tokenizer_init:
        return ServedModel(model, runner, defaults, None, SelectedFormat(None))
    tokenizer, selected = load_text_layer(model, chat_options(options))
    runner = limit_vocabulary(runner, model, tokenizer)
    return ServedModel(model, runner, defaults, tokenizer, selected)
