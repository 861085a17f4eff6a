"""How a bare engine is driven: jobs in on standard input, their times out, in lines of JSON.

Imports the standard library alone, because each engine's own Python runs it.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from itertools import pairwise
from statistics import median

OnToken = Callable[[int], None]
"""Called as soon as the prompt of this index has one more token."""
Generate = Callable[[list[list[int]], int, OnToken], None]
"""Continues all prompts at once by so many tokens each."""


def take_standard_output() -> int:
    """A descriptor for answers; what an engine prints goes to standard error from now on."""
    answers = os.dup(1)
    os.dup2(2, 1)
    return answers


def run_jobs(generate: Generate, answers: int) -> None:
    """Make a token, say so, and then answer jobs until there are no more."""
    _measure(generate, [[100, 101]], 1)
    _write(answers, {"ready": True})
    for line in sys.stdin:
        job = json.loads(line)
        _write(answers, _measure(generate, job["prompts"], job["output_tokens"]))


def _measure(generate: Generate, prompts: list[list[int]], output_tokens: int) -> dict[str, object]:
    arrivals: list[list[float]] = [[] for _ in prompts]
    start = time.perf_counter()
    generate(prompts, output_tokens, lambda index: arrivals[index].append(time.perf_counter()))
    seconds = time.perf_counter() - start
    gaps = [b - a for times in arrivals for a, b in pairwise(times)]
    return {
        "seconds": seconds,
        "tokens": [len(times) for times in arrivals],
        "first_token_ms": 1e3 * median(times[0] - start for times in arrivals if times),
        "inter_token_ms": 1e3 * median(gaps) if gaps else 0.0,
    }


def _write(descriptor: int, answer: dict[str, object]) -> None:
    os.write(descriptor, json.dumps(answer).encode() + b"\n")
