"""Test doubles for the seams of glmserve."""

from __future__ import annotations

import threading
from collections.abc import Sequence

from glmserve.step import (
    RunnerInfo,
    RunnerLimits,
    ScheduledSequence,
    StepInput,
    StepOutput,
    unpack_int32,
)
from glmserve.text import ChatFormat, ChatMessage, Tokenizer
from glmserve.text.response_filter import FilterChain

LIMITS = RunnerLimits(
    num_blocks=64, block_size=4, max_sequences=16, max_step_tokens=32, max_context=128
)


def next_token(tokens: list[int]) -> int:
    """What FakeRunner "generates" after these tokens: depends on all of them, like a model."""
    state = 7
    for token in tokens:
        state = (state * 31 + token + 1) % 10007
    return 32 + state % 90


def expected_output(prompt_ids: list[int], num_tokens: int) -> list[int]:
    """The tokens FakeRunner generates for a prompt, when alone in the world."""
    tokens = list(prompt_ids)
    for _ in range(num_tokens):
        tokens.append(next_token(tokens))
    return tokens[len(prompt_ids) :]


class FakeRunner:
    """A runner whose KV cache holds the token itself, and which checks how it is used.

    Reading a slot that was never written, or that somebody else has overwritten, changes the
    output, so any mistake of the planner shows as a wrong token.
    """

    def __init__(self, limits: RunnerLimits = LIMITS, gate: threading.Event | None = None) -> None:
        self.info = RunnerInfo(limits, "fake", "none", 0, 0, 0)
        self.cache: list[int | None] = [None] * limits.token_capacity
        self.steps: list[StepInput] = []
        self.closed = False
        self.fail_at_step: int | None = None
        self.gate = gate

    def execute(self, step: StepInput) -> StepOutput:
        if self.gate is not None:
            assert self.gate.wait(timeout=30)
        if self.fail_at_step is not None and step.step_id >= self.fail_at_step:
            raise RuntimeError("the fake device is on fire")
        self._check_limits(step)
        self.steps.append(step)
        for sequence in step.sequences:
            self._write(sequence)
        sampled = [s for s in step.sequences if s.sampling is not None]
        return StepOutput(step.step_id, [next_token(self._read(s)) for s in sampled])

    def close(self) -> None:
        self.closed = True

    def _check_limits(self, step: StepInput) -> None:
        limits = self.info.limits
        lengths = [len(s.token_ids) for s in step.sequences]
        assert lengths
        assert min(lengths) >= 1
        assert len(lengths) <= limits.max_sequences
        assert sum(lengths) <= limits.max_step_tokens
        assert len({s.request_id for s in step.sequences}) == len(lengths)
        if not limits.mixes_prefill_and_decode:
            decodes = [len(s.token_ids) == 1 and s.sampling is not None for s in step.sequences]
            assert all(decodes) or not any(decodes)
        if not limits.chunked_prefill:
            assert all(s.sampling is not None for s in step.sequences)
        if not limits.prefix_cache and not limits.chunked_prefill:
            assert all(s.start == 0 or len(s.token_ids) == 1 for s in step.sequences)
        if limits.batch_sizes and max(lengths) == 1:
            assert len(lengths) <= max(limits.batch_sizes)

    def _slots(self, sequence: ScheduledSequence, start: int, end: int) -> list[int]:
        size = self.info.limits.block_size
        table = unpack_int32(sequence.block_table)
        return [table[i // size] * size + i % size for i in range(start, end)]

    def _write(self, sequence: ScheduledSequence) -> None:
        end = sequence.start + len(sequence.token_ids)
        slots = self._slots(sequence, sequence.start, end)
        for slot, token in zip(slots, sequence.token_ids, strict=True):
            self.cache[slot] = token

    def _read(self, sequence: ScheduledSequence) -> list[int]:
        end = sequence.start + len(sequence.token_ids)
        tokens = [self.cache[slot] for slot in self._slots(sequence, 0, end)]
        assert None not in tokens, "read a slot that was never written"
        return [token for token in tokens if token is not None]


class ByteTokenizer(Tokenizer):
    """One id per byte, and an end token."""

    def __init__(self) -> None:
        super().__init__(vocab_size=257, special_ids={"<eos>": 256}, eos_id=256)

    def _encode(self, text: str) -> list[int]:
        return list(text.encode())

    def _piece_bytes(self, token_id: int) -> bytes:
        return bytes([token_id])


class PlainChat(ChatFormat):
    """Messages one after another."""

    name = "plain"

    def _render(self, messages: Sequence[ChatMessage]) -> list[int]:
        return self.tokenizer.encode("".join(f"{m.role}:{m.content}\n" for m in messages))

    def response_filter(self) -> FilterChain:
        return FilterChain()
