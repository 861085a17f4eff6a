"""Selects a checkpoint's chat format: from the option, from its files, or from its name."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from glmserve.errors import CheckpointError, OptionError
from glmserve.model_config import name_hints
from glmserve.model_config.reader import read_json_object
from glmserve.text.chat_format import ChatFormat
from glmserve.text.fine_tuned_formats import ChatMLFormat, CodeGeeX4Format, GLMEdgeFormat
from glmserve.text.glm4_0414_formats import GLM40414Format, GLMZ1Format
from glmserve.text.plain_formats import ChatGLM2Format, ChatGLMFormat, CodeGeeX2Format
from glmserve.text.role_formats import ChatGLM3Format, GLM4Format
from glmserve.text.tokenizer import Tokenizer

CHAT_FORMATS: dict[str, type[ChatFormat]] = {
    chat_format.name: chat_format
    for chat_format in (
        *(ChatGLMFormat, ChatGLM2Format, ChatGLM3Format, GLM4Format, CodeGeeX2Format),
        *(GLM40414Format, GLMZ1Format, GLMEdgeFormat, CodeGeeX4Format, ChatMLFormat),
    )
}

_NAME_PATTERNS = {
    "codegeex2": re.compile("codegeex2", re.IGNORECASE),
    "codegeex4": re.compile("codegeex-?4", re.IGNORECASE),
    "glm-z1": re.compile("glm-z1(?!.*rumination)", re.IGNORECASE),
    "glm-edge": re.compile("glm-edge", re.IGNORECASE),
    "glm4-0414": re.compile("glm-?4.*0414", re.IGNORECASE),
    "chatglm3": re.compile("chatglm-?3(?![0-9])", re.IGNORECASE),
    "chatglm2": re.compile("chatglm-?2(?![0-9])", re.IGNORECASE),
    "glm4": re.compile("glm-?4(?![0-9a-z])", re.IGNORECASE),
    "chatglm": re.compile("chatglm-?6b", re.IGNORECASE),
}


def select_chat_format(
    name_hints: Sequence[str], tokenizer: Tokenizer, explicit: str | None = None
) -> ChatFormat:
    """The chat format to use, with the tokenizer.

    `explicit` comes first, then the first hint that names a format, then special tokens that only
    one model has.

    Raises:
        OptionError: `explicit` is not the name of a format.
        CheckpointError: the format is unknown, or the tokenizer lacks tokens that it needs.
    """
    name = named_chat_format(name_hints, explicit) or _format_of_special_tokens(tokenizer)
    if name is None:
        raise CheckpointError(
            "the checkpoint does not say how its chats are written; "
            f"--chat-format must be one of {', '.join(CHAT_FORMATS)}"
        )
    return CHAT_FORMATS[name](tokenizer)


def named_chat_format(name_hints: Sequence[str], explicit: str | None = None) -> str | None:
    """Name of the format given explicitly or by a hint, or None.

    Raises:
        OptionError: `explicit` is not the name of a format.
    """
    if explicit is not None:
        if explicit not in CHAT_FORMATS:
            raise OptionError(f"--chat-format {explicit}: must be one of {', '.join(CHAT_FORMATS)}")
        return explicit
    for hint in name_hints:
        if hint in CHAT_FORMATS:
            return hint
        # The last folder that matches counts: chatglm3/data/chatglm2-6b/checkpoint-100.
        for part in reversed(re.split(r"[/\\]", hint)):
            for name, pattern in _NAME_PATTERNS.items():
                if pattern.search(part):
                    return name
    return None


def read_name_hints(directory: Path) -> list[str]:
    """Everything in a checkpoint that may name its chat format, the most reliable first.

    First glmserve's key "chat_format", then the names under which the files were published, then
    the directory's name.

    Raises:
        CheckpointError: a JSON file is damaged, or "chat_format" is not the name of a format.
    """
    hints = []
    for path in (directory / "tokenizer_config.json", directory / "config.json"):
        chat_format = read_json_object(path).get("chat_format") if path.is_file() else None
        if chat_format is not None:
            if not isinstance(chat_format, str) or chat_format not in CHAT_FORMATS:
                raise CheckpointError(
                    f"{path}: chat_format must be one of {', '.join(CHAT_FORMATS)}"
                )
            hints.append(chat_format)
    return hints + name_hints(directory)


def _format_of_special_tokens(tokenizer: Tokenizer) -> str | None:
    """The format that only fits these special tokens. None for ChatGLM2 and CodeGeeX2, which share
    theirs."""
    tokens = tokenizer.special_ids.keys()
    if "<|user|>" in tokens:
        return "glm4" if "<sop>" in tokens else "chatglm3"
    return "chatglm" if "<sop>" in tokens else None
