"""Loads the checkpoint's tokenizer and chat format, and checks that they belong to its model."""

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
    """Load the tokenizer and the chat format.

    Args:
        chat_format: name of the format given by the user.

    Raises:
        OptionError: there is no format of this name.
        CheckpointError: the tokenizer cannot be loaded, or the format is unknown.
    """
    folder = model.path.parent
    tokenizer = load_tokenizer(folder, chat_format)
    return tokenizer, select_chat_format(read_name_hints(folder), tokenizer, chat_format)


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
