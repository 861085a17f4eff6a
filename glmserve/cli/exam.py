"""`glmserve bench exam`: multiple-choice questions, answered by log-likelihood."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from glmserve.cli import values
from glmserve.cli.embedded_command import run_to_end
from glmserve.cli.options import (
    add_chat_format_option,
    add_checkpoint_options,
    add_device_options,
    add_load_format_option,
)
from glmserve.errors import OptionError

if TYPE_CHECKING:
    Commands = argparse._SubParsersAction[argparse.ArgumentParser]


def add_command(commands: Commands) -> None:
    """Add `exam` to the benchmarks."""
    parser = commands.add_parser(
        "exam",
        help="accuracy in multiple-choice exams such as C-Eval and MMLU, by log-likelihood",
        description="Answer multiple-choice questions with the option that the model finds most "
        "likely, and print the accuracy with its standard error.",
        allow_abbrev=False,
    )
    parser.set_defaults(run=run)
    _add_exam_options(parser)
    model = parser.add_argument_group("model")
    add_checkpoint_options(model)
    add_load_format_option(model)
    add_chat_format_option(model)
    add_device_options(parser)


def _add_exam_options(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("exam")
    group.add_argument(
        "exams",
        type=Path,
        nargs="*",
        metavar="FILE",
        help="CSV files, one a subject, with the columns question, A, B, C, D and answer, or "
        "MMLU's without names of columns; default: questions that come with glmserve and that "
        "glm-tiny was trained to answer, by text",
    )
    group.add_argument(
        "--num-questions", type=values.positive, metavar="N", help="the first N of each file only"
    )
    group.add_argument(
        "--by",
        choices=("letter", "text"),
        help="letter: show the options, and compare the letters; text: show the question alone, "
        "and compare the options by log-likelihood a character; default: letter",
    )
    group.add_argument(
        "--examples",
        type=Path,
        metavar="PATH",
        help="a file with questions that are answered before each question, or a folder with such "
        "a file for each subject, named SUBJECT_dev.csv",
    )
    group.add_argument(
        "--shots",
        type=values.positive,
        default=5,
        metavar="N",
        help="with --examples: the first N of them",
    )
    group.add_argument(
        "--raw",
        action="store_true",
        help="continue the questions as texts, instead of answering them as a conversation",
    )
    group.add_argument(
        "--threshold",
        type=values.percentage,
        metavar="X",
        help="exit code 1 if the accuracy over all questions is below X per cent",
    )
    group.add_argument(
        "--json",
        type=values.new_file,
        metavar="FILE",
        help="write accuracies and all answers to it",
    )


def run(options: argparse.Namespace) -> int:
    """Print the table; returns the exit code.

    Raises:
        OptionError: a file is no exam, or the model gives no log-likelihoods.
        StartupError: the model cannot be loaded, or a question not be answered.
    """
    from glmserve.model_config import read_model_config

    prefix = options.ptuning_checkpoint and str(options.ptuning_checkpoint)
    model = read_model_config(options.checkpoint, options.rope_scaling, prefix)
    if model.prompt_marks is not None:
        raise OptionError(
            f"{model.path}: this model reads texts in both directions, so answers have no "
            "log-likelihood to compare"
        )
    from glmserve.cli.examining import examine  # here: --help need not wait

    return run_to_end(examine(options))
