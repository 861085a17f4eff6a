"""Conversations from files: ShareGPT's JSON, and prompts or messages as JSON lines."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec

from glmserve.errors import OptionError
from glmserve.load_test.workload import Conversation, Turn

_SPEAKERS = ("human", "user")


def read_conversations(
    path: Path, output_tokens: Callable[[], int], max_turns: int
) -> list[Conversation]:
    """All conversations of a file.

    A JSON list has ShareGPT's format: objects with `conversations`, a list of `from` and `value`.
    Other files have a JSON object on each line, with a `prompt` or with `messages`, and perhaps
    with `max_tokens`.

    Args:
        output_tokens: gives the longest answer where the file does not say.
        max_turns: questions that are taken from a conversation.

    Raises:
        OptionError: the file cannot be read, or has nothing to ask.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise OptionError(f"--dataset {path}: {(error.strerror or str(error)).lower()}") from None
    items = _items(data, path)
    found = [_conversation(item, output_tokens, max_turns) for item in items]
    conversations = [conversation for conversation in found if conversation is not None]
    if not conversations:
        raise OptionError(
            f"--dataset {path} has no conversations: it must be ShareGPT's JSON, or have an object "
            "with prompt or messages on each line"
        )
    return conversations


def repeated(conversations: Sequence[Conversation], rng: random.Random) -> Iterator[Conversation]:
    """The conversations in random order, again and again."""
    order = list(conversations)
    while True:
        rng.shuffle(order)
        yield from order


def _items(data: bytes, path: Path) -> list[Any]:
    try:
        if data.lstrip().startswith(b"["):
            items: list[Any] = msgspec.json.decode(data)
            return items
        return [msgspec.json.decode(line) for line in data.splitlines() if line.strip()]
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise OptionError(f"--dataset {path} is no JSON: {error}") from None


def _conversation(
    item: Any, output_tokens: Callable[[], int], max_turns: int
) -> Conversation | None:
    """A conversation; None if there is nothing in it to ask."""
    if not isinstance(item, dict):
        return None
    limit = item.get("max_tokens")
    longest = limit if isinstance(limit, int) and limit > 0 else output_tokens()
    if isinstance(item.get("prompt"), str):
        return Conversation([Turn(item["prompt"], longest)])
    if isinstance(item.get("messages"), list):
        return _of_messages(item["messages"], longest)
    if isinstance(item.get("conversations"), list):
        questions = [
            part["value"]
            for part in item["conversations"]
            if isinstance(part, dict)
            and part.get("from") in _SPEAKERS
            and isinstance(part.get("value"), str)
        ]
        if questions:
            return Conversation([Turn(text, longest) for text in questions[:max_turns]])
    return None


def _of_messages(messages: list[Any], longest: int) -> Conversation | None:
    """What the last message asks, after the others."""
    texts = [
        {"role": message["role"], "content": message["content"]}
        for message in messages
        if isinstance(message, dict)
        and isinstance(message.get("role"), str)
        and isinstance(message.get("content"), str)
    ]
    if len(texts) < len(messages) or not texts or texts[-1]["role"] != "user":
        return None
    return Conversation([Turn(texts[-1]["content"], longest)], texts[:-1])
