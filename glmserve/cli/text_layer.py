"""Loads the checkpoint's tokenizer and chat format, and checks that they belong to its model."""

from __future__ import annotations

import argparse

import msgspec

from glmserve.config import RunnerConfig
from glmserve.errors import CheckpointError
from glmserve.model_config import ModelConfig
from glmserve.text import Tokenizer, load_tokenizer
from glmserve.text.templates.selection import ChatOptions, SelectedFormat, select_format


def chat_options(options: argparse.Namespace) -> ChatOptions:
    """What the command line says about conversations."""
    return ChatOptions(options.chat_format, options.chat_template, options.strict_templates)


def load_text_layer(model: ModelConfig, options: ChatOptions) -> tuple[Tokenizer, SelectedFormat]:
    """Load the tokenizer and the chat format.

    Raises:
        OptionError: there is no format of this name.
        CheckpointError: the tokenizer or the chat template cannot be used, or the format is
            unknown.
    """
    folder = model.path.parent
    tokenizer = load_tokenizer(folder, options.chat_format)
    return tokenizer, select_format(folder, tokenizer, options)


def limit_vocabulary(
    config: RunnerConfig, model: ModelConfig, tokenizer: Tokenizer
) -> RunnerConfig:
    """Exclude the output layer's spare rows, which have no text, from sampling.

    Raises:
        CheckpointError: the model has fewer rows than the tokenizer has ids.
    """
    for token_id, text in tokenizer.added_texts.items():
        if token_id >= model.vocab_size:
            raise CheckpointError(
                f"{model.path}: the added token {text!r} has the id {token_id}, and the model's "
                f"vocabulary ends at {model.vocab_size - 1}"
            )
    if tokenizer.vocab_size > model.vocab_size:
        raise CheckpointError(
            f"{model.path}: the vocabulary of {model.vocab_size} is smaller than the "
            f"tokenizer's {tokenizer.vocab_size}, which ends with "
            f"{tokenizer.decode([tokenizer.vocab_size - 1], skip_special_tokens=False)!r}; they do "
            "not belong together"
        )
    return msgspec.structs.replace(
        config,
        vocab_limit=tokenizer.vocab_size,
        never_sampled=tuple(sorted(tokenizer.never_sampled)),
    )
