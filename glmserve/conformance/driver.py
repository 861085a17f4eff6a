"""Drives a runner without a scheduler, within the limits that the runner states."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from glmserve.contract.adapter import NO_ADAPTER
from glmserve.contract.prompt_layout import PromptLayout
from glmserve.contract.step import (
    Logprobs,
    MaskSource,
    Runner,
    RunnerLimits,
    SamplingInput,
    ScheduledSequence,
    ScoreInput,
    StepInput,
    StepOutput,
    no_masks,
)


@dataclass
class Text:
    """The tokens of one sequence, of which the first `computed` are in the KV cache."""

    request_id: int
    tokens: list[int]
    blocks: list[int]
    layout: PromptLayout | None
    computed: int = 0
    adapter_id: int = NO_ADAPTER

    @property
    def block_table(self) -> bytes:
        return np.array(self.blocks, dtype=np.int32).tobytes()


class Piece(NamedTuple):
    """Tokens of one text that a step computes."""

    text: Text
    size: int
    """Tokens."""
    sampling: SamplingInput | None = None
    score: ScoreInput | None = None
    pool: bool = False

    def scheduled(self) -> ScheduledSequence:
        """The piece as a part of a step."""
        text = self.text
        new = text.tokens[text.computed : text.computed + self.size]
        return ScheduledSequence(
            text.request_id,
            new,
            text.computed,
            text.block_table,
            self.sampling,
            self.score,
            self.pool,
            text.layout,
            adapter_id=text.adapter_id,
        )


class Result(NamedTuple):
    """What a step reports about one piece."""

    token_id: int | None
    logprobs: Logprobs | None
    scores: list[Logprobs]
    pooled: NDArray[np.float32] | None
    """float32 [H]"""


@dataclass
class Driver:
    """Texts of one runner.

    Args:
        seed: of the order in which blocks are given out.
    """

    runner: Runner
    seed: int = 0
    _free: list[int] = field(init=False)
    _next_id: int = field(init=False, default=0)

    def __post_init__(self) -> None:
        self._free = list(range(self.limits.num_blocks))
        random.Random(self.seed).shuffle(self._free)

    @property
    def limits(self) -> RunnerLimits:
        return self.runner.info.limits

    def add(self, tokens: Sequence[int], room: int = 0) -> Text:
        """A text with blocks for its tokens and `room` more."""
        count = -(-(len(tokens) + room) // self.limits.block_size)
        assert count <= len(self._free), "the KV cache is too small for this check"
        blocks, self._free = self._free[:count], self._free[count:]
        marks = self.limits.prompt_marks
        layout = None if marks is None else marks.layout(list(tokens))
        self._next_id += 1
        return Text(self._next_id, list(tokens), blocks, layout)

    def room_for(self, tokens: int) -> int:
        """How many texts of so many tokens still get blocks."""
        return len(self._free) // -(-tokens // self.limits.block_size)

    def release(self, text: Text) -> None:
        """Give the text's blocks back; they are the next to be given out."""
        self._free = text.blocks + self._free
        text.blocks = []

    def compute(self, pieces: Sequence[Piece], masks: MaskSource = no_masks) -> list[Result]:
        """Execute the pieces, in as many steps as the limits ask for.

        Args:
            masks: for the constrained pieces; then there must be a single step.
        """
        results: dict[int, Result] = {}
        for numbers in group(self.limits, pieces):
            part = [pieces[i] for i in numbers]
            step = StepInput(1, [piece.scheduled() for piece in part])
            output = run_step(self.runner, step, masks)
            results |= dict(zip(numbers, _results(part, output), strict=True))
            for piece in part:
                piece.text.computed += piece.size
        return [results[i] for i in range(len(pieces))]

    def sizes(self, length: int, chunk: int, whole: int = 0) -> Iterator[int]:
        """Token counts that compute `length` tokens in chunks, as far as the limits allow.

        Args:
            whole: tokens at the beginning that go together.
        """
        chunk = min(chunk, self.limits.max_step_tokens)
        if not self.limits.chunked_prefill:
            whole = whole or length
        done = 0
        while done < length:
            size = min(length - done, max(chunk, whole - done))
            yield size
            done += size


def run_step(runner: Runner, step: StepInput, masks: MaskSource = no_masks) -> StepOutput:
    """Execute a step and wait for its output."""
    output = runner.execute(step, masks)
    return output if isinstance(output, StepOutput) else output()


def group(limits: RunnerLimits, pieces: Sequence[Piece]) -> Iterator[list[int]]:
    """Indices of the pieces of each step."""
    numbers = range(len(pieces))
    if limits.mixes_prefill_and_decode:
        yield from _filled(limits, pieces, numbers, limits.max_sequences)
        return
    decodes = [i for i in numbers if pieces[i].size == 1]
    most = min(limits.max_sequences, max(limits.batch_sizes or (limits.max_sequences,)))
    yield from _filled(limits, pieces, decodes, most)
    chunks = [i for i in numbers if pieces[i].size > 1]
    yield from _filled(limits, pieces, chunks, limits.max_sequences)


def _filled(
    limits: RunnerLimits, pieces: Sequence[Piece], numbers: Sequence[int], most: int
) -> Iterator[list[int]]:
    step: list[int] = []
    tokens = 0
    for i in numbers:
        if step and (len(step) == most or tokens + pieces[i].size > limits.max_step_tokens):
            yield step
            step, tokens = [], 0
        step.append(i)
        tokens += pieces[i].size
    if step:
        yield step


def _results(pieces: Sequence[Piece], output: StepOutput) -> Iterator[Result]:
    tokens, logprobs = iter(output.token_ids), iter(output.logprobs)
    scores, pooled = iter(output.scores), iter(output.pooled)
    has_logprobs = bool(output.logprobs)
    for piece in pieces:
        samples = piece.sampling is not None
        yield Result(
            next(tokens) if samples else None,
            next(logprobs) if samples and has_logprobs else None,
            next(scores) if piece.score is not None else [],
            np.frombuffer(next(pooled), dtype=np.float32) if piece.pool else None,
        )
    for rest in (tokens, logprobs, scores, pooled):
        assert next(rest, None) is None, "the output has more than was asked for"


Rule = Callable[[Text], SamplingInput]
"""How to choose the next token of a text."""


def generate(
    driver: Driver, texts: Sequence[Text], count: int, chunk: int, rule: Rule
) -> list[list[int]]:
    """Compute the texts side by side until each has `count` new tokens.

    Args:
        chunk: tokens of a text in one step, at most.
    """
    lengths = [len(text.tokens) for text in texts]
    while any(len(t.tokens) < n + count for t, n in zip(texts, lengths, strict=True)):
        pieces = []
        for text, length in zip(texts, lengths, strict=True):
            left = len(text.tokens) - text.computed
            if len(text.tokens) >= length + count:
                continue
            size = next(driver.sizes(left, chunk, whole=_whole(text)))
            pieces.append(Piece(text, size, rule(text) if size == left else None))
        for piece, result in zip(pieces, driver.compute(pieces), strict=True):
            if result.token_id is not None:
                piece.text.tokens.append(result.token_id)
    return [text.tokens[n:] for text, n in zip(texts, lengths, strict=True)]


def _whole(text: Text) -> int:
    """Tokens that the text's first step must have."""
    if text.layout is None or text.computed:
        return 0
    return text.layout.context_length + 1
