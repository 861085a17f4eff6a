"""`glmserve bench summarize`: summaries of articles, their ROUGE scores, and how long they take."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from glmserve.cli import values
from glmserve.cli.embedded_command import run_to_end
from glmserve.cli.options import (
    add_chat_format_option,
    add_checkpoint_options,
    add_device_options,
    add_load_format_option,
)
from glmserve.errors import OptionError
from glmserve.hub.name import HubName

if TYPE_CHECKING:
    Commands = argparse._SubParsersAction[argparse.ArgumentParser]


def add_command(commands: Commands) -> None:
    """Add `summarize` to the benchmarks."""
    parser = commands.add_parser(
        "summarize",
        help="summaries of articles: their ROUGE scores and their speed, beside another engine",
        description="Let the model sum up articles, and compare its summaries with references: "
        "ROUGE-1, ROUGE-2 and ROUGE-L as F-measures in per cent, for English by words and for "
        "Chinese by characters. The row named chance scores each summary with the references of "
        "other articles. Needs rouge-score: pip install 'glmserve[rouge]'.",
        allow_abbrev=False,
    )
    parser.set_defaults(run=run)
    _add_article_options(parser)
    model = parser.add_argument_group("model")
    add_checkpoint_options(model)
    add_load_format_option(model)
    add_chat_format_option(model)
    _add_result_options(parser)
    add_device_options(parser)


def _add_article_options(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("articles")
    group.add_argument(
        "articles",
        type=Path,
        nargs="?",
        metavar="FILE",
        help="articles in JSON Lines, with the fields article (or document, content, text) and "
        "reference (or summary, highlights); default: letters that come with glmserve, which end "
        "with a question that glm-tiny was trained to answer",
    )
    group.add_argument(
        "--num-articles", type=values.positive, metavar="N", help="the first N articles only"
    )
    group.add_argument(
        "--prompt",
        type=_prompt,
        metavar="TEXT",
        help="what the user says, with {article} where the article belongs; default: a request in "
        "the article's language for a summary of two or three sentences, and of the letters the "
        "letter alone",
    )
    group.add_argument(
        "--max-tokens", type=values.positive, default=128, metavar="N", help="longest summary"
    )
    group.add_argument(
        "--batch-size",
        type=values.positive,
        default=16,
        metavar="N",
        help="summaries that are written at the same time",
    )


def _add_result_options(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("results")
    group.add_argument(
        "--against",
        type=_against,
        metavar="transformers|PATH",
        help="sum up the same articles once more: with the same weights in transformers' own Glm "
        "class, from the same tokens, or with another checkpoint",
    )
    group.add_argument(
        "--rouge1-threshold",
        type=values.percentage,
        metavar="X",
        help="exit code 1 if ROUGE-1 of the model is below X per cent",
    )
    group.add_argument(
        "--json",
        type=values.new_file,
        metavar="FILE",
        help="write scores, times and all summaries to it",
    )


def run(options: argparse.Namespace) -> int:
    """Print the table; returns the exit code.

    Raises:
        OptionError: the articles cannot be read, a package is missing, or two options contradict
            each other.
        StartupError: a model cannot be loaded, or an article not be summed up.
    """
    if options.against == "transformers" and options.load_format == "dummy":
        raise OptionError("--against transformers: random weights are in no file to read again")
    from glmserve.cli.summarizing import summarize  # here: --help need not wait

    return run_to_end(summarize(options))


def _prompt(text: str) -> str:
    if "{article}" not in text:
        raise argparse.ArgumentTypeError("must say where the article belongs: write {article}")
    return text


def _against(text: str) -> Path | HubName | Literal["transformers"]:
    return "transformers" if text == "transformers" else values.checkpoint(text)
