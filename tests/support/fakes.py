"""Test doubles for the seams of glmserve."""

from __future__ import annotations

import struct
import threading
from collections.abc import Sequence

import msgspec

from glmserve.contract.step import (
    PLACEHOLDER_TOKEN_ID,
    Logprobs,
    MaskSource,
    PendingOutput,
    RunnerInfo,
    RunnerLimits,
    SamplingInput,
    ScheduledSequence,
    StepInput,
    StepOutput,
    no_masks,
    unpack_int32,
)
from glmserve.text import ChatMessage, Tokenizer
from glmserve.text.plain_formats import PlainFormat
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


def expected_logprobs(token_id: int, count: int, given_ids: Sequence[int] = ()) -> Logprobs:
    """What FakeRunner reports of a token: itself first, then its successors, then given ids."""
    ids = [*(token_id + i for i in range(count)), *given_ids]
    return Logprobs(-token_id / 1024, ids, [-i / 1024 for i in ids])


def nearest_allowed(token_id: int, mask: bytes) -> int:
    """The first allowed id from `token_id` on, going round; any id without a mask."""
    num_ids = 8 * len(mask)
    candidates = (i % num_ids for i in range(token_id, token_id + num_ids))
    return next((i for i in candidates if mask[i // 8] >> i % 8 & 1), token_id)


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
        self.releases = 0
        self.fail_at_step: int | None = None
        self.gate = gate
        self._chosen: dict[int, int] = {}  # by request id, in the last step

    def execute(self, step: StepInput, masks: MaskSource = no_masks) -> StepOutput:
        if self.gate is not None:
            assert self.gate.wait(timeout=30)
        if self.fail_at_step is not None and step.step_id >= self.fail_at_step:
            raise RuntimeError("the fake device is on fire")
        self._check_limits(step)
        self.steps.append(step)
        for sequence in step.sequences:
            self._write(sequence)
            self._check_layout(sequence)
        sampled = [place for s in step.sequences for place in _split_places(s)]
        token_ids = [self._choose(s) for s in sampled]
        constrained = [i for i, s in enumerate(sampled) if s.sampling and s.sampling.constrained]
        if constrained:
            for i, mask in zip(constrained, masks(), strict=True):
                token_ids[i] = nearest_allowed(token_ids[i], mask)
        self._chosen = {s.request_id: t for s, t in zip(sampled, token_ids, strict=True)}
        return StepOutput(step.step_id, token_ids, *self._reports(step, sampled, token_ids))

    def _choose(self, sequence: ScheduledSequence) -> int:
        tokens = self._read(sequence)
        assert sequence.sampling is not None
        history = [*unpack_int32(sequence.sampling.history)]
        if history:
            is_pending = sequence.token_ids == [PLACEHOLDER_TOKEN_ID]
            assert history == (tokens[:-1] if is_pending else tokens)
        return next_token(tokens)

    def _reports(
        self, step: StepInput, sampled: list[ScheduledSequence], token_ids: list[int]
    ) -> tuple[list[Logprobs | None], list[list[Logprobs]], list[bytes]]:
        """Log-probabilities and sums that follow from the tokens, wherever they are asked for."""
        rules = [s.sampling or SamplingInput() for s in sampled]
        logprobs = [
            None
            if r.top_logprobs is None
            else expected_logprobs(t, r.top_logprobs, r.logprob_token_ids)
            for t, r in zip(token_ids, rules, strict=True)
        ]
        scores = [
            [expected_logprobs(t, s.score.top_logprobs) for t in s.score.targets]
            for s in step.sequences
            if s.score
        ]
        sums = [struct.pack("f", sum(s.token_ids)) for s in step.sequences if s.pool]
        return logprobs, scores, sums

    def release_cache(self) -> None:
        self.releases += 1
        self.cache = [None] * len(self.cache)

    def close(self) -> None:
        self.closed = True

    def _check_limits(self, step: StepInput) -> None:
        limits = self.info.limits
        lengths = [len(s.token_ids) - len(s.drafts) for s in step.sequences]
        drafts = sum(len(s.drafts) for s in step.sequences)
        assert drafts <= limits.max_drafts
        assert lengths
        assert min(lengths) >= 1
        assert len(lengths) <= limits.max_sequences
        assert sum(lengths) + drafts <= limits.max_step_tokens
        assert len({s.request_id for s in step.sequences}) == len(lengths)
        if not limits.mixes_prefill_and_decode:
            # One token of a sum is the last of its prompt, or the first part of a longer one.
            decodes = [
                n == 1 and s.sampling is not None
                for n, s in zip(lengths, step.sequences, strict=True)
                if n > 1 or not s.pool
            ]
            assert all(decodes) or not any(decodes)
        if not limits.chunked_prefill:
            assert all(s.sampling is not None or s.pool for s in step.sequences)
        if not limits.prefix_cache and not limits.chunked_prefill:
            starts = [s.start for s in step.sequences]
            assert all(start == 0 or n == 1 for start, n in zip(starts, lengths, strict=True))
        if limits.batch_sizes and max(lengths) == 1:
            assert len(lengths) <= max(limits.batch_sizes)

    def _check_layout(self, sequence: ScheduledSequence) -> None:
        marks, layout = self.info.limits.prompt_marks, sequence.layout
        if marks is None or layout is None:
            assert layout is marks
            return
        assert layout == marks.layout(self._read(sequence))
        assert sequence.start == 0 or sequence.start > layout.context_length

    def _slots(self, sequence: ScheduledSequence, start: int, end: int) -> list[int]:
        size = self.info.limits.block_size
        table = unpack_int32(sequence.block_table)
        return [table[i // size] * size + i % size for i in range(start, end)]

    def _write(self, sequence: ScheduledSequence) -> None:
        end = sequence.start + len(sequence.token_ids)
        slots = self._slots(sequence, sequence.start, end)
        token_ids = sequence.token_ids
        if PLACEHOLDER_TOKEN_ID in token_ids:
            assert self.info.limits.resolves_placeholders
            assert len(token_ids) == 1
            token_ids = [self._chosen[sequence.request_id]]
        for slot, token in zip(slots, token_ids, strict=True):
            self.cache[slot] = token

    def _read(self, sequence: ScheduledSequence) -> list[int]:
        end = sequence.start + len(sequence.token_ids)
        tokens = [self.cache[slot] for slot in self._slots(sequence, 0, end)]
        assert None not in tokens, "read a slot that was never written"
        return [token for token in tokens if token is not None]


def _split_places(sequence: ScheduledSequence) -> list[ScheduledSequence]:
    """For each place of a sequence, what it would be if it ended there."""
    known = len(sequence.token_ids) - len(sequence.drafts)
    return [
        msgspec.structs.replace(
            sequence, token_ids=sequence.token_ids[: known + i], sampling=place, drafts=[]
        )
        for i, place in enumerate(sequence.sampling_inputs)
    ]


class AsyncRunner(FakeRunner):
    """Gives out what a step computed once the next step is launched, and not before.

    Steps from `last_step` on are followed by none; so is every step until it is set.
    """

    last_step = 0

    def __init__(self, limits: RunnerLimits = LIMITS) -> None:
        super().__init__(msgspec.structs.replace(limits, resolves_placeholders=True))
        self._next_launched = threading.Event()

    def execute(  # type: ignore[override]
        self, step: StepInput, masks: MaskSource = no_masks
    ) -> PendingOutput:
        self._next_launched.set()  # seen by the step before
        next_launched = self._next_launched = threading.Event()
        output = super().execute(step, masks)

        def wait() -> StepOutput:
            if step.step_id < self.last_step:
                assert next_launched.wait(timeout=10), "nothing was launched meanwhile"
            return output

        return wait


class ByteTokenizer(Tokenizer):
    """One id per byte, and an end token."""

    def __init__(self) -> None:
        super().__init__(vocab_size=257, special_ids={"<eos>": 256}, eos_id=256)

    def _encode(self, text: str) -> list[int]:
        return list(text.encode())

    def _piece_bytes(self, token_id: int) -> bytes:
        return bytes([token_id])


class PlainChat(PlainFormat):
    """Messages one after another."""

    name = "plain"
    lead_in = ""

    def _text(self, system: list[str], messages: Sequence[ChatMessage]) -> str:
        everything = [*(ChatMessage("system", text) for text in system), *messages]
        return "".join(f"{m.role}:{m.content}\n" for m in everything)

    def _closed_text(self, system: list[str], messages: Sequence[ChatMessage]) -> str:
        return self._text(system, messages).removesuffix("\n")

    def response_filter(self) -> FilterChain:
        return FilterChain()
