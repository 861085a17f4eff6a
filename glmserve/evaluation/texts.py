"""Texts as windows of token ids."""

from __future__ import annotations

import random
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from glmserve.config import EMBEDDED_CHECKPOINT
from glmserve.text import ChatFormat, ChatMessage, Tokenizer

_CONVERSATIONS = EMBEDDED_CHECKPOINT.parent / "training" / "text"
"""The conversations in Chinese and English that glm-tiny was trained on."""


class Window(NamedTuple):
    """A piece of text that is read without its context."""

    ids: list[int]
    first: int
    """Index of the first token to predict; at least 1."""


def text_windows(tokenizer: Tokenizer, text: str, window: int, max_tokens: int) -> list[Window]:
    """Cut the first `max_tokens` tokens of a text into windows of at most `window` tokens.

    All tokens of a window except the first are predicted.
    """
    ids = tokenizer.encode(text)[:max_tokens]
    return [Window(ids[i : i + window], 1) for i in range(0, len(ids) - 1, window)]


def conversation_windows(
    tokenizer: Tokenizer, chat: ChatFormat, window: int, max_tokens: int
) -> list[Window]:
    """Questions and answers that ship with glmserve, in the given format. Answers are predicted.

    They are drawn in a fixed random order until the next one would exceed `max_tokens` in total.
    Pairs longer than `window` tokens are left out.
    """
    pairs = sorted(_questions_and_answers())
    random.Random(0).shuffle(pairs)
    found, total = [], 0
    for question, answer in pairs:
        prompt = chat.render([ChatMessage("user", question)])
        ids = prompt + tokenizer.encode(answer)
        total += len(ids)
        if total > max_tokens:
            break
        if len(prompt) < len(ids) <= window:
            found.append(Window(ids, len(prompt)))
    return found


def _questions_and_answers(folder: Path = _CONVERSATIONS) -> Iterator[tuple[str, str]]:
    """Yield all pairs except templates with slots to fill."""
    for file in folder.glob("*.toml"):
        for intent in tomllib.loads(file.read_text(encoding="utf-8")).values():
            if not isinstance(intent, dict):
                continue
            for question in intent.get("often", ()):
                answer = intent["say"][0]
                if "{" not in question + answer:
                    yield question, answer
