"""What a load test sends: conversations of one or several turns."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from glmserve.load_test.lengths import Length

Endpoint = Literal["chat", "completions"]

_WORDS = (
    "the server reads every prompt and writes its answer one token after another while others "
    "wait for their turn in the queue and the cache keeps what it has seen before"
).split()


@dataclass(frozen=True)
class Turn:
    """A question."""

    content: str | list[int]
    """Text, or token ids."""
    max_tokens: int


@dataclass(frozen=True)
class Conversation:
    """Questions that follow each other; each is asked with all that was said before it."""

    turns: Sequence[Turn]
    earlier: Sequence[dict[str, str]] = ()
    """Messages before the first question, such as a system message."""


@dataclass(frozen=True)
class Shape:
    """Of random conversations.

    Attributes:
        turns: of each conversation.
        prefix_tokens: that the first question has in common with others; 0: none.
        num_prefixes: different ones.
        token_ids: lowest and highest of random ids, for completions.
    """

    prompt_tokens: Length
    output_tokens: Length
    turns: int = 1
    prefix_tokens: int = 0
    num_prefixes: int = 1
    token_ids: tuple[int, int] = (100, 1000)


@dataclass(frozen=True)
class Sampling:
    """Fields of all requests."""

    model: str
    temperature: float = 0.0
    ignore_eos: bool = False
    extra: dict[str, Any] = field(default_factory=dict)


def random_conversations(
    shape: Shape, endpoint: Endpoint, rng: random.Random
) -> Iterator[Conversation]:
    """Conversations without an end, the same for the same seed.

    A question of chats has about as many tokens as words; one of completions has exactly so many.
    """
    prefixes = [
        _random(shape, endpoint, rng, shape.prefix_tokens) for _ in range(shape.num_prefixes)
    ]
    while True:
        turns = []
        for number in range(shape.turns):
            content = _random(shape, endpoint, rng, shape.prompt_tokens(rng))
            if number == 0 and shape.prefix_tokens:
                content = _joined(rng.choice(prefixes), content)
            turns.append(Turn(content, shape.output_tokens(rng)))
        yield Conversation(turns)


def body_of(
    endpoint: Endpoint, sampling: Sampling, messages: Sequence[dict[str, str]], turn: Turn
) -> dict[str, Any]:
    """The request for a turn, as a stream with usage.

    Args:
        messages: of the conversation so far; completions have none.
    """
    body: dict[str, Any] = {
        "model": sampling.model,
        "stream": True,
        "stream_options": {"include_usage": True},
        "max_tokens": turn.max_tokens,
        "temperature": sampling.temperature,
        **sampling.extra,
    }
    if sampling.ignore_eos:
        body["ignore_eos"] = True
    if endpoint == "completions":
        body["prompt"] = turn.content
    else:
        body["messages"] = [*messages, {"role": "user", "content": turn.content}]
    return body


def _random(shape: Shape, endpoint: Endpoint, rng: random.Random, count: int) -> str | list[int]:
    if endpoint == "completions":
        low, high = shape.token_ids
        return [rng.randint(low, high) for _ in range(count)]
    return " ".join(rng.choices(_WORDS, k=count))


def _joined(prefix: str | list[int], content: str | list[int]) -> str | list[int]:
    if isinstance(prefix, str):
        return f"{prefix} {content}"
    assert isinstance(content, list)  # both are of one endpoint
    return [*prefix, *content]
