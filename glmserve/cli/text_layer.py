"""The checkpoint's tokenizer and chat format, and whether they belong to its model."""

from __future__ import annotations

import msgspec

from glmserve.config import RunnerConfig
from glmserve.errors import CheckpointError
from glmserve.model_config import ModelConfig
from glmserve.text import (
    ChatFormat,
    Tokenizer,
    load_tokenizer,
    read_name_hints,
    select_chat_format,
)


def load_text_layer(model: ModelConfig, chat_format: str | None) -> tuple[Tokenizer, ChatFormat]:
    """What turns conversations into token ids.

    Args:
        chat_format: the one that was asked for by name.

    Raises:
        OptionError, CheckpointError: there is none, or nothing tells which.
    """
    folder = model.path.parent
    tokenizer = load_tokenizer(folder, chat_format)
    return tokenizer, select_chat_format(read_name_hints(folder), tokenizer, chat_format)


def limit_vocabulary(
    config: RunnerConfig, model: ModelConfig, tokenizer: Tokenizer
) -> RunnerConfig:
    """Keep the output layer's spare rows from being sampled: no text belongs to them.

    Raises:
        CheckpointError: the model has fewer rows than the tokenizer has ids.
    """
    if tokenizer.vocab_size > model.vocab_size:
        raise CheckpointError(
            f"{model.path}: the vocabulary of {model.vocab_size} is smaller than the "
            f"tokenizer's {tokenizer.vocab_size}; they do not belong together"
        )
    return msgspec.structs.replace(
        config,
        vocab_limit=tokenizer.vocab_size,
        never_sampled=tuple(sorted(tokenizer.never_sampled)),
    )
