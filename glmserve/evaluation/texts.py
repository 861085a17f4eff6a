"""Texts as token ids, in pieces that are read one by one."""

from __future__ import annotations

import random
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from glmserve.config import EMBEDDED_CHECKPOINT
from glmserve.text import ChatFormat, ChatMessage, Tokenizer

_TALK = EMBEDDED_CHECKPOINT.parent / "training" / "text"
"""What glm-tiny learnt to answer, in Chinese and English."""


class Window(NamedTuple):
    """A piece of text that is read without what is around it."""

    ids: list[int]
    first: int
    """The first token to predict; at least 1."""


def text_windows(tokenizer: Tokenizer, text: str, window: int, most_tokens: int) -> list[Window]:
    """A text's beginning, cut into windows; all but the first token of each are predicted."""
    ids = tokenizer.encode(text)[:most_tokens]
    return [Window(ids[i : i + window], 1) for i in range(0, len(ids) - 1, window)]


def conversation_windows(
    tokenizer: Tokenizer, chat: ChatFormat, window: int, most_tokens: int
) -> list[Window]:
    """Questions and answers that come with glmserve, as `chat` writes them; answers are predicted.

    As many as hold no more than `most_tokens` together, drawn in an order that is always the same.
    """
    pairs = sorted(_questions_and_answers())
    random.Random(0).shuffle(pairs)
    found, total = [], 0
    for question, answer in pairs:
        prompt = chat.render([ChatMessage("user", question)])
        ids = prompt + tokenizer.encode(answer)
        total += len(ids)
        if total > most_tokens:
            break
        if len(prompt) < len(ids) <= window:
            found.append(Window(ids, len(prompt)))
    return found


def _questions_and_answers(folder: Path = _TALK) -> Iterator[tuple[str, str]]:
    """Those with slots to fill are left out."""
    for file in folder.glob("*.toml"):
        for intent in tomllib.loads(file.read_text(encoding="utf-8")).values():
            if not isinstance(intent, dict):
                continue
            for question in intent.get("often", ()):
                answer = intent["say"][0]
                if "{" not in question + answer:
                    yield question, answer
