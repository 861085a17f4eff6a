"""What is served."""

from __future__ import annotations

import argparse
from pathlib import Path

from glmserve.cli import values
from glmserve.config import EMBEDDED_CHECKPOINT


def add_model_options(parser: argparse.ArgumentParser) -> None:
    """Add their group to a command."""
    group = parser.add_argument_group("model")
    group.add_argument(
        "--checkpoint",
        type=Path,
        default=EMBEDDED_CHECKPOINT,
        metavar="PATH",
        help="folder with config.json and weights, or one weights file with config.json beside it",
    )
    group.add_argument(
        "--ptuning-checkpoint",
        type=Path,
        metavar="PATH",
        help="folder of a P-Tuning v2 prefix that was trained for the checkpoint",
    )
    group.add_argument(
        "--served-model-name",
        type=values.non_empty,
        nargs="+",
        action="extend",
        metavar="NAME",
        help="what clients call it, the model's own name first; default: the folder's name",
    )
    group.add_argument(
        "--load-format",
        choices=("auto", "dummy"),
        default="auto",
        help="dummy: seeded random weights from config.json alone",
    )
    group.add_argument(
        "--skip-tokenizer-init",
        action="store_true",
        help="serve token ids on /v1/completions only; needs no tokenizer files",
    )
    group.add_argument(
        "--chat-format",
        metavar="NAME",
        help="chatglm, chatglm2, chatglm3, glm4 or codegeex2; default: what the checkpoint tells",
    )
    group.add_argument(
        "--rope-scaling",
        choices=("positions", "base"),
        help="what the config's rope_ratio means; default: what the checkpoint tells",
    )
    group.add_argument(
        "--max-model-len",
        type=values.positive,
        metavar="TOKENS",
        help="longest prompt and answer together; default: the model's, if the cache holds it",
    )
    group.add_argument(
        "--seed",
        type=values.seed,
        default=0,
        help="seeds dummy weights, and requests without a seed in order of arrival",
    )
