"""Generates texts for prompts that arrive at the same time, and measures how long it takes."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from glmserve.engine import AnswerTokens, ChoiceSpec, Engine, SchedulingAttributes
from glmserve.request import SamplingParams

_PLAIN = SchedulingAttributes()


@dataclass(frozen=True)
class Timing:
    """How long the texts took. `base` and `incremental` are the names of the two graphs of
    compiled devices: one computes prompts, the other one token of each text."""

    num_prompts: int
    prompt_tokens: int
    """Of all prompts."""
    output_tokens: int
    """Of all texts."""
    base_seconds: float
    """Until every text had its first token."""
    incremental_seconds: float
    """From then on until the last token."""

    def lines(self) -> list[str]:
        """The report."""
        after_first = self.output_tokens - self.num_prompts
        total = self.base_seconds + self.incremental_seconds
        return [
            f"{'':14}{'tokens':>10}{'seconds':>12}{'tokens/s':>12}{'ms a token':>12}",
            _line("base", self.prompt_tokens, self.base_seconds),
            _line("incremental", after_first, self.incremental_seconds),
            _line("total", self.prompt_tokens + self.output_tokens, total),
        ]


def _line(name: str, tokens: int, seconds: float) -> str:
    rate = f"{tokens / seconds:.1f}" if seconds > 0 else "-"
    each = f"{1000 * seconds / tokens:.3f}" if tokens else "-"
    return f"{name:14}{tokens:10}{seconds:12.3f}{rate:>12}{each:>12}"


async def generate(
    engine: Engine,
    prompts: Sequence[list[int]],
    params: SamplingParams,
    on_tokens: Callable[[int, list[int]], object],
    attributes: SchedulingAttributes = _PLAIN,
) -> Timing:
    """Generate a text for each prompt, all at once.

    Args:
        on_tokens: called with the index of a text and its new tokens.
        attributes: of all prompts, such as their adapter.

    Raises:
        GlmserveError: a prompt cannot be computed, or a text failed.
    """
    streams = []
    lengths = [0] * len(prompts)
    start = time.perf_counter()
    first = start
    try:
        for prompt in prompts:
            streams += engine.submit_group(prompt, [ChoiceSpec(params)], attributes)
        answer, unfinished = AnswerTokens(streams), len(streams)
        while unfinished:
            index, new = await answer.next()
            if not new.token_ids:
                unfinished -= 1
                continue
            if not lengths[index]:
                first = time.perf_counter()
            lengths[index] += len(new.token_ids)
            on_tokens(index, new.token_ids)
        end = time.perf_counter()
    finally:
        for stream in streams:
            stream.close()
    return Timing(
        len(prompts), sum(map(len, prompts)), sum(lengths), first - start, max(0.0, end - first)
    )
