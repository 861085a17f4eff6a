"""A step under construction."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import msgspec

from glmserve.contract.step import (
    PLACEHOLDER_TOKEN_ID,
    SamplingInput,
    ScheduledSequence,
    ScoreInput,
)
from glmserve.request import Request
from glmserve.scheduler.random import noise_key

_GREEDY = SamplingInput()
_GREEDY_CONSTRAINED = SamplingInput(constrained=True)


class Scheduled(msgspec.Struct):
    """What a step computes for one request."""

    request: Request
    num_tokens: int
    """Without drafts."""
    samples: bool
    """Whether a token is sampled after them."""
    scores: bool
    """Whether log-probabilities of prompt tokens are reported."""
    pools: bool
    """Whether hidden states are summed up."""
    drafts: tuple[int, ...] = ()
    """Guessed tokens that follow these tokens."""


class StepSize(NamedTuple):
    """How much a step computes."""

    sequences: int
    background: int
    """Sequences in the background."""
    decodes: int
    """Sequences with one token, drafts aside."""
    others: int
    """All other tokens: of prompts, and drafts."""
    drafts: int

    @classmethod
    def of(cls, items: Sequence[Scheduled]) -> StepSize:
        """The size of a step. One loop, because it runs for every token."""
        background = decodes = tokens = drafts = 0
        for item in items:
            background += item.request.in_background
            decodes += item.num_tokens == 1
            tokens += item.num_tokens
            drafts += len(item.drafts)
        return cls(len(items), background, decodes, tokens - decodes + drafts, drafts)


class Plan:
    """The sequences of the next step, and what is left of its token budget.

    Args:
        budget: maximum number of new tokens in the step.
    """

    def __init__(self, budget: int) -> None:
        self.budget = budget
        self.sequences: list[ScheduledSequence] = []
        self.scheduled: list[Scheduled] = []

    def add(self, request: Request, num_tokens: int, block_table: bytes) -> bool:
        """Schedule the request's next `num_tokens` tokens. Sample after its last known token.

        Args:
            block_table: packed native int32, one block id for each `block_size` tokens.

        Returns:
            Whether the step samples a token for the request.
        """
        start = request.num_scheduled_tokens
        end = start + num_tokens
        known = len(request.token_ids)
        token_ids = [PLACEHOLDER_TOKEN_ID]
        if start < known:
            token_ids = request.token_ids[start:end].tolist()
        sampling = None
        if end == known + request.num_pending_tokens and request.params.max_tokens:
            sampling = _sampling_input(request, end)
            request.num_pending_tokens += 1
        request.num_scheduled_tokens = end
        score, pools = None, False
        if start < request.num_prompt_tokens and request.needs_whole_prompt:
            score = _score_input(request, start, end)
            pools = request.params.pool
        self.budget -= num_tokens
        self.scheduled.append(
            Scheduled(request, num_tokens, sampling is not None, score is not None, pools)
        )
        self.sequences.append(
            ScheduledSequence(
                request.id,
                token_ids,
                start,
                block_table,
                sampling,
                score,
                pools,
                request.layout,
                adapter_id=request.adapter_id,
            )
        )
        return sampling is not None

    def add_drafts(self, index: int, drafts: list[int], block_table: bytes) -> None:
        """Append drafts to the sequence at `index`, which samples a token.

        Args:
            block_table: as for `add`, with slots for the drafts.
        """
        sequence, item = self.sequences[index], self.scheduled[index]
        position = sequence.start + item.num_tokens + 1
        self.budget -= len(drafts)
        item.drafts = tuple(drafts)
        self.sequences[index] = msgspec.structs.replace(
            sequence,
            token_ids=sequence.token_ids + drafts,
            block_table=block_table,
            drafts=[_sampling_input(item.request, position + i) for i in range(len(drafts))],
        )


def _sampling_input(request: Request, position: int) -> SamplingInput:
    """How to sample the token at a position. The token before it may still be a placeholder."""
    params, sampling = request.params, request.params.sampling
    constrained = request.constraint is not None
    if request.has_default_sampling:
        return _GREEDY_CONSTRAINED if constrained else _GREEDY
    penalises = sampling.penalises
    too_early_to_stop = position - request.num_prompt_tokens < params.min_tokens
    return SamplingInput(
        noise_key=noise_key(params.seed, position),
        sampling=sampling,
        history=request.token_ids.tobytes() if penalises else b"",
        prompt_length=request.num_prompt_tokens if penalises else 0,
        banned=tuple(sorted(params.stop_token_ids)) if too_early_to_stop else (),
        constrained=constrained,
        top_logprobs=params.top_logprobs,
        logprob_token_ids=params.logprob_token_ids,
    )


def _score_input(request: Request, start: int, end: int) -> ScoreInput | None:
    """Prompt tokens to score: those that follow positions start..end-1. None if not requested."""
    top_logprobs = request.params.prompt_logprobs
    if top_logprobs is None:
        return None
    return ScoreInput(request.prompt_ids[start + 1 : end + 1], top_logprobs)
