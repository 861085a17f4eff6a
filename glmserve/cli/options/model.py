"""Options for the model: its files, its name, its tokenizer and its context length."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from glmserve.cli import values
from glmserve.config import EMBEDDED_CHECKPOINT


def add_model_options(parser: argparse.ArgumentParser, *, positional: bool = False) -> None:
    """Add the group "model" to a command.

    Args:
        positional: accept the checkpoint as an argument without a name, too.
    """
    group = parser.add_argument_group("model")
    checkpoint = group.add_mutually_exclusive_group()
    if positional:
        checkpoint.add_argument(
            "model",
            nargs="?",
            action=_StoreCheckpoint,
            type=values.checkpoint,
            metavar="MODEL",
            help="the same as --checkpoint",
        )
    checkpoint.add_argument(
        "--checkpoint",
        "--model",
        "--model-path",
        "-m",
        type=values.checkpoint,
        default=EMBEDDED_CHECKPOINT,
        metavar="PATH",
        help="the model: a folder with config.json and weights, one weights file with config.json "
        "beside it, or OWNER/MODEL[@REVISION] as on Hugging Face, with ms:// before it as on "
        "ModelScope; what no cache has is fetched",
    )
    group.add_argument(
        "--ptuning-checkpoint",
        type=values.checkpoint,
        metavar="PATH",
        help="folder of a P-Tuning v2 prefix that was trained for this checkpoint",
    )
    group.add_argument(
        "--served-model-name",
        type=values.non_empty,
        nargs="+",
        action="extend",
        metavar="NAME",
        help="names of the model in requests; answers carry the first one; default: the name of "
        "the checkpoint's folder",
    )
    group.add_argument(
        "--load-format",
        choices=("auto", "dummy"),
        default="auto",
        help="dummy: make random weights of the shapes in config.json; no weights file is needed",
    )
    group.add_argument(
        "--skip-tokenizer-init",
        action="store_true",
        help="serve token ids on /v1/completions only; no tokenizer file is needed",
    )
    group.add_argument(
        "--chat-format",
        metavar="NAME",
        help="prompt format of conversations: chatglm, chatglm2, chatglm3, glm4, codegeex2, "
        "glm4-0414, glm-z1, glm-edge, codegeex4 or chatml; default: the format that the "
        "checkpoint's chat template writes, or that its files name",
    )
    group.add_argument(
        "--chat-template",
        type=values.non_empty,
        metavar="FILE",
        help="Jinja template of conversations in place of the checkpoint's, which is rendered "
        "unless glmserve has a format that writes the same; native: no template, the format by "
        "the checkpoint's name; none: no conversations",
    )
    group.add_argument(
        "--strict-templates",
        action="store_true",
        help="refuse a conversation if the chat template changes a text in it, such as by trim",
    )
    group.add_argument(
        "--generation-config",
        choices=("auto", "none"),
        default="auto",
        help="auto: the checkpoint's generation_config.json gives tokens that end an answer, and "
        "temperature and other values for requests that do not set them; none: it is not read",
    )
    group.add_argument(
        "--rope-scaling",
        choices=("positions", "base"),
        help="meaning of rope_ratio in config.json: it divides the positions (ChatGLM2-6B-32k) or "
        "multiplies the base (ChatGLM3, GLM-4); required only if the checkpoint does not say which",
    )
    group.add_argument(
        "--max-model-len",
        "--context-length",
        type=values.positive,
        metavar="TOKENS",
        help="longest prompt and answer together; default: the model's own limit, or less if the "
        "KV cache is smaller",
    )
    group.add_argument(
        "--seed",
        type=values.seed,
        default=0,
        metavar="N",
        help="seed of dummy weights, and of the seeds that requests without one get in order of "
        "arrival",
    )


class _StoreCheckpoint(argparse.Action):
    """Stores a positional MODEL where --checkpoint stores its value."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: str | Sequence[object] | None,
        option_string: str | None = None,
    ) -> None:
        if values is not None:
            namespace.checkpoint = values
