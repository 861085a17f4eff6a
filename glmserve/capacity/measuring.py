"""Measures how long the steps of a running engine take."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable, Sequence
from statistics import median

from glmserve.capacity.cpu_choices import CpuChoice, Glance
from glmserve.capacity.step_costs import Curve, StepCosts
from glmserve.contract.step import RunnerLimits
from glmserve.engine import ChoiceSpec, Engine, TokenStream
from glmserve.errors import OptionError
from glmserve.request import SamplingParams

Report = Callable[[str], None]

_SHORT_PROMPT = 16
"""Tokens of prompts of which only the decodes are measured."""
_DECODES = 24
"""Decode steps of each measurement; the median counts."""
_PREFILLS = 5
"""Prompts of each measurement; the median counts."""
_SPREAD = 20
"""Multiples of the median that stand for all steps of a kind."""
_SHARE_OF_CACHE = 0.5
"""Of the KV cache that long contexts may take."""
_LONGEST_CONTEXT = 4096
"""Tokens of the contexts that show what attention costs."""
_CONTEXTS_TOGETHER = 16384
"""Tokens of all contexts of a batch, so that reading them does not take minutes."""


class Measuring:
    """Runs requests on an engine that has nothing else to do.

    Args:
        engine: it is started, and shares no prefixes.
        vocab_size: prompts are of ids below it.
        report: called with a line about each measurement.
    """

    def __init__(self, engine: Engine, vocab_size: int, report: Report) -> None:
        self.engine = engine
        self._limits: RunnerLimits = engine.info.limits
        self._largest_batch = self._limits.max_sequences
        self._usable = range(min(10, vocab_size - 1), vocab_size)
        self._rng = random.Random(0)
        self._report = report
        self._spread: list[float] = []  # times of all decode steps over the median of their kind

    async def measure(self) -> StepCosts:
        """Measure everything. It takes some hundred steps.

        Raises:
            OptionError: the context is too short for that.
        """
        self._check_context()
        await self._decode(1, _SHORT_PROMPT)  # a first step may be slower than all others
        batches = [b for b in _powers(1, self._largest_batch) if self._fits(b, _SHORT_PROMPT)]
        short = {batch: await self._decode(batch, _SHORT_PROMPT) for batch in batches}
        decode_context = await self._decode_context(short)
        reach = _SHORT_PROMPT + _DECODES // 2
        decode = {b: s - b * reach * decode_context for b, s in short.items()}
        chunk = min(self._limits.max_step_tokens, self._limits.max_context - 1)
        prompts = {n: await self._prefill(n) for n in _powers(2, chunk)}
        prefill_context = await self._prefill_context(prompts[chunk], chunk)
        prefill = {n: s - n * (n + 1) / 2 * prefill_context for n, s in prompts.items()}
        return StepCosts(
            _curve(decode),
            _curve(prefill),
            decode_context,
            prefill_context,
            _middles(self._spread, _SPREAD),
        )

    async def glance(self, choice: CpuChoice) -> Glance:
        """A short measurement for comparisons.

        Raises:
            OptionError: the context is too short for that.
        """
        self._check_context()
        batch = self.glance_batch
        chunk = min(512, self._limits.max_step_tokens, self._limits.max_context - 1)
        await self._decode(1, _SHORT_PROMPT)  # a first step may be slower than all others
        alone = await self._decode(1, _SHORT_PROMPT)
        together = await self._decode(batch, _SHORT_PROMPT)
        prompt = await self._prefill(chunk)
        return Glance(choice, 1 / alone, batch / together, chunk / prompt)

    @property
    def glance_batch(self) -> int:
        """Requests at the same time in `glance`."""
        return min(16, self._largest_batch)

    async def _decode_context(self, short: dict[int, float]) -> float:
        """Seconds for each token that a decode attends to, from the longest contexts that fit."""
        found = []
        for batch in sorted({1, *list(short)[len(short) // 2 :: 2]}):
            cached = int(self._limits.token_capacity * _SHARE_OF_CACHE)
            context = min(_LONGEST_CONTEXT, min(cached, _CONTEXTS_TOGETHER) // batch)
            context = min(context, self._limits.max_context - self._output_tokens(batch, context))
            if context >= 8 * _SHORT_PROMPT:
                more = await self._decode(batch, context) - short[batch]
                found.append(more / (batch * (context - _SHORT_PROMPT)))
        return max(0.0, median(found)) if found else 0.0

    async def _prefill_context(self, chunk_seconds: float, chunk: int) -> float:
        """Seconds for each pair, from a prompt of several chunks of equal size."""
        limits = self._limits
        longest = min(limits.max_context - 1, int(limits.token_capacity * _SHARE_OF_CACHE))
        chunks = min(longest, _LONGEST_CONTEXT) // chunk
        if chunks < 2:
            return 0.0
        more = await self._prefill(chunks * chunk) - chunks * chunk_seconds
        return max(0.0, more / (chunk * chunk * chunks * (chunks - 1) / 2))

    async def _decode(self, batch: int, prompt_tokens: int) -> float:
        """Median seconds of a step that decodes `batch` requests."""
        output_tokens = self._output_tokens(batch, prompt_tokens)
        streams = [self._submit(prompt_tokens, output_tokens) for _ in range(batch)]
        try:
            for stream in streams:
                await _next_tokens(stream)  # the last one has begun when all decode
            steps = []
            begin = time.perf_counter()
            for _ in range(_DECODES):
                await _next_tokens(streams[-1])
                end = time.perf_counter()
                steps.append(end - begin)
                begin = end
        finally:
            for stream in streams:
                stream.close()
        del steps[:2]
        seconds = median(steps)
        self._spread += [step / seconds for step in steps]
        self._report(f"{batch} decodes, contexts of {prompt_tokens}: {1000 * seconds:.3f} ms")
        return seconds

    async def _prefill(self, tokens: int) -> float:
        """Median seconds from a prompt's arrival to its first token."""
        found = []
        for _ in range(_PREFILLS):
            begin = time.perf_counter()
            stream = self._submit(tokens, 1)
            try:
                await _next_tokens(stream)
            finally:
                stream.close()
            found.append(time.perf_counter() - begin)
        seconds = median(found)
        self._report(f"a prompt of {tokens}: {1000 * seconds:.3f} ms")
        return seconds

    def _submit(self, prompt_tokens: int, output_tokens: int) -> TokenStream:
        prompt = self._rng.choices(self._usable, k=prompt_tokens)
        params = SamplingParams(max_tokens=output_tokens)
        return self.engine.submit_group(prompt, [ChoiceSpec(params)])[0]

    def _check_context(self) -> None:
        needed = _SHORT_PROMPT + self._output_tokens(self._largest_batch, _SHORT_PROMPT)
        if needed > self._limits.max_context:
            raise OptionError(
                f"{self._largest_batch} decodes at once are measured with {needed} tokens each, "
                f"and the context is {self._limits.max_context}; give a larger --max-model-len, or "
                "a smaller --max-batch-size"
            )

    def _fits(self, batch: int, prompt_tokens: int) -> bool:
        output_tokens = self._output_tokens(batch, prompt_tokens)
        needed = batch * (prompt_tokens + output_tokens + self._limits.block_size)
        return batch == 1 or needed <= self._limits.token_capacity

    def _output_tokens(self, batch: int, prompt_tokens: int) -> int:
        """Of each of `batch` requests, so that all decode while the last one is measured.

        Each prompt may take steps of its own, in what the decodes leave of a step.
        """
        steps = -(-prompt_tokens // max(1, self._limits.max_step_tokens - batch))
        return _DECODES + batch * steps + 1


async def _next_tokens(stream: TokenStream) -> None:
    """Wait for the next tokens of a stream.

    Raises:
        GlmserveError: it failed.
    """
    arrived = asyncio.Event()
    stream.on_ready = arrived.set
    while stream.take() is None:
        arrived.clear()
        await arrived.wait()


def _powers(first: int, last: int) -> list[int]:
    """The powers of two from `first` on that are below `last`, and `last`."""
    found, number = [], first
    while number < last:
        found.append(number)
        number *= 2
    return [*found, last]


def _middles(values: Sequence[float], count: int) -> tuple[float, ...]:
    """Cut the values in ascending order into `count` equal parts, and take the middle of each."""
    ordered = sorted(values)
    return tuple(ordered[(2 * part + 1) * len(ordered) // (2 * count)] for part in range(count))


def _curve(points: dict[int, float]) -> Curve:
    """A curve through these points. More rows never take less time: what says so is noise."""
    rows: Sequence[int] = sorted(points)
    seconds, least = [], 0.0
    for row in rows:
        least = max(least, points[row])
        seconds.append(least)
    return Curve(tuple(rows), tuple(seconds))
