"""What a load test sends: how many tokens, which words, and when."""

from __future__ import annotations

import argparse
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass

_WORDS = (
    "the server reads every prompt and writes its answer one token after another while others "
    "wait for their turn in the queue and the cache keeps what it has seen before"
).split()

Length = Callable[[random.Random], int]


def length(text: str) -> Length:
    """`128`, `uniform:64:256` or `normal:128:32` as a function that draws a number of tokens."""
    kind, *numbers = text.split(":") if ":" in text else ("fixed", text)
    try:
        values = [int(number) for number in numbers]
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r}: lengths are whole numbers") from None
    if any(value < 1 for value in values):
        raise argparse.ArgumentTypeError(f"{text!r}: lengths are at least 1")
    match kind, values:
        case "fixed", [value]:
            return lambda rng: value
        case "uniform", [low, high] if low <= high:
            return lambda rng: rng.randint(low, high)
        case "normal", [mean, deviation]:
            return lambda rng: max(1, round(rng.gauss(mean, deviation)))
    raise argparse.ArgumentTypeError(
        f"{text!r}: write 128, uniform:64:256 (low, high) or normal:128:32 (mean, deviation)"
    )


@dataclass(frozen=True)
class Job:
    """One request to send."""

    body: dict[str, object]
    due: float
    """Seconds after the start; 0 for closed-loop load."""


def jobs(options: argparse.Namespace, model: str, rng: random.Random) -> Iterator[Job]:
    """The requests of a run, the same for the same seed."""
    due = 0.0
    for _ in range(options.requests):
        if options.rate:
            due += rng.expovariate(options.rate)
        yield Job(_body(options, model, rng), due)


def _body(options: argparse.Namespace, model: str, rng: random.Random) -> dict[str, object]:
    body: dict[str, object] = {
        "model": model,
        "stream": True,
        "stream_options": {"include_usage": True},
        "max_tokens": options.output_tokens(rng),
        "temperature": options.temperature,
    }
    if options.ignore_eos:
        body["ignore_eos"] = True
    num_tokens = options.prompt_tokens(rng)
    if options.endpoint == "completions":
        low, high = options.token_ids
        body["prompt"] = [rng.randint(low, high) for _ in range(num_tokens)]
    else:
        text = " ".join(rng.choices(_WORDS, k=num_tokens))
        body["messages"] = [{"role": "user", "content": text}]
    return body
