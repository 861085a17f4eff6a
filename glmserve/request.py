"""A request in the planning half: token ids in, token ids out."""

from __future__ import annotations

import enum
from array import array
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

import msgspec

from glmserve.contract.adapter import NO_ADAPTER
from glmserve.contract.prompt_layout import PromptLayout
from glmserve.contract.sampling import Sampling
from glmserve.contract.step import Logprobs


class SamplingParams(msgspec.Struct, frozen=True, kw_only=True):
    """How the tokens of a request are chosen, and when the request ends."""

    max_tokens: int
    """0: only the prompt is computed."""
    min_tokens: int = 0
    """Number of output tokens before which no stop token is chosen."""
    sampling: Sampling = Sampling()
    seed: int = 0
    stop_token_ids: frozenset[int] = frozenset()
    """Ids that end the request; they are not part of its text."""
    top_logprobs: int | None = None
    """Report log-probabilities of each output token and of this many most likely ones; None: report
    none."""
    logprob_token_ids: tuple[int, ...] = ()
    """Report those of these ids as well; only with `top_logprobs`."""
    prompt_logprobs: int | None = None
    """The same as `top_logprobs` for the prompt's tokens except the first."""
    pool: bool = False
    """Report the sum of the last hidden states of the prompt."""

    @property
    def has_default_sampling(self) -> bool:
        """Whether all tokens are chosen by the default SamplingInput, constraints aside."""
        return self.sampling.is_plain_greedy and self.top_logprobs is None and not self.min_tokens


class TokenConstraint(Protocol):
    """Limits the next token of one request's output. It has state and belongs to one request."""

    @property
    def is_finished(self) -> bool:
        """Whether the output is complete."""
        ...

    def allowed(self) -> bytes:
        """The mask of the next token, see TokenMasks. Called on a thread."""
        ...

    def accept(self, token_id: int) -> None:
        """Advance by the chosen token."""
        ...


class RequestStatus(enum.IntEnum):
    """States in order; all from FINISHED_STOPPED on are finished."""

    HELD = 0
    """Not queued yet: its adapter is not loaded, or another request computes the same prompt, to be
    shared."""
    WAITING = 1
    RUNNING = 2
    PREEMPTED = 3
    """Waiting again after its blocks were taken; keeps its tokens."""
    FINISHED_STOPPED = 4
    FINISHED_LENGTH = 5
    FINISHED_ABORTED = 6
    FINISHED_ERROR = 7

    @property
    def has_begun(self) -> bool:
        """Whether the request has ever had blocks."""
        return self > RequestStatus.WAITING

    @property
    def is_finished(self) -> bool:
        return self >= _FIRST_FINISHED


_FIRST_FINISHED = RequestStatus.FINISHED_STOPPED

FINISH_REASONS: dict[RequestStatus, str] = {
    RequestStatus.FINISHED_STOPPED: "stop",
    RequestStatus.FINISHED_LENGTH: "length",
    RequestStatus.FINISHED_ABORTED: "abort",
    RequestStatus.FINISHED_ERROR: "error",
}


@dataclass
class Progress:
    """The progress of a request that is submitted again, to continue from there."""

    token_ids: list[int] = field(default_factory=list)
    """Output so far."""
    status: RequestStatus | None = None
    """The final status if the request has ended; else None."""
    num_cached_tokens: int = 0
    num_drafted_tokens: int = 0
    num_accepted_tokens: int = 0
    prompt_logprobs: list[Logprobs] = field(default_factory=list)


@dataclass(slots=True, eq=False)
class Request:
    """One sequence of tokens being extended. Owned and written by the scheduler."""

    id: int
    prompt_ids: list[int]
    params: SamplingParams
    priority: int = 0
    """Lower runs first; equal priorities run first come, first served."""
    cache_salt: bytes = b""
    """Prefix-cache entries are shared only between requests with equal salt."""
    constraint: TokenConstraint | None = None
    prediction: Sequence[int] = ()
    """Token ids that the output may repeat: a source of drafts beside the prompt."""
    tenant: str = ""
    """The tenant that sent it. Tenants share the model by their weights, however many requests
    each of them has."""
    adapter_id: int = NO_ADAPTER
    """The adapter that changes the model for it, see AdapterSource."""
    in_background: bool = False
    """Computed only while no other request can use the model."""
    status: RequestStatus = RequestStatus.WAITING
    has_default_sampling: bool = field(init=False)
    """As in `params`; looked up for every token."""
    max_total_tokens: int = field(init=False)
    """Largest number of tokens of this request, prompt and output."""
    token_ids: array[int] = field(init=False)
    """Prompt and output so far, int32."""
    num_computed_tokens: int = 0
    """Tokens with K/V in the cache."""
    num_scheduled_tokens: int = 0
    """Tokens with K/V in the cache when the steps in flight are done."""
    num_pending_tokens: int = 0
    """Tokens that the steps in flight choose, not yet in `token_ids`."""
    last_plan: int = 0
    """The number of the last plan with tokens of it, where steps overlap; see Planner."""
    num_cached_tokens: int = 0
    """Prompt tokens that the first admission found in the prefix cache."""
    num_preemptions: int = 0
    """How often it lost its blocks, to other requests or with the runner."""
    num_crashes: int = 0
    """Steps with this request that crashed the runner since its last token."""
    layout: PromptLayout | None = None
    """Layout of the prompt, if the model's prompts have one."""
    num_drafted_tokens: int = 0
    """Drafts of output tokens so far."""
    num_accepted_tokens: int = 0
    """Drafts that were right."""
    prompt_logprobs: list[Logprobs] = field(default_factory=list)
    """Of prompt tokens 1, 2, ... as far as they are computed, if `params` request them."""
    pooled: array[float] = field(default_factory=lambda: array("f"))
    """[H] float32: sum over the prompt's tokens computed so far, if `params` request it."""

    def __post_init__(self) -> None:
        self.has_default_sampling = self.params.has_default_sampling
        self.max_total_tokens = len(self.prompt_ids) + self.params.max_tokens
        self.token_ids = array("i", self.prompt_ids)

    def append(self, token_id: int) -> RequestStatus | None:
        """Append a token.

        Returns:
            The final status if the token ends the request, else None.
        """
        self.token_ids.append(token_id)
        if token_id in self.params.stop_token_ids:
            return RequestStatus.FINISHED_STOPPED
        if self.constraint is not None:
            self.constraint.accept(token_id)
            if self.constraint.is_finished:
                return RequestStatus.FINISHED_STOPPED
        if len(self.token_ids) >= self.max_total_tokens:
            return RequestStatus.FINISHED_LENGTH
        return None

    def restore(self, progress: Progress) -> None:
        """Restore earlier progress, as after a preemption; the request may be finished then.

        Called before the request is queued.
        """
        self.prompt_logprobs = progress.prompt_logprobs
        self.num_drafted_tokens = progress.num_drafted_tokens
        self.num_accepted_tokens = progress.num_accepted_tokens
        if progress.token_ids:
            self.num_cached_tokens = progress.num_cached_tokens
            self.num_preemptions = 1
        for token_id in progress.token_ids:
            self.status = self.append(token_id) or self.status
        self.status = progress.status or self.status

    @property
    def num_prompt_tokens(self) -> int:
        return len(self.prompt_ids)

    @property
    def num_tokens(self) -> int:
        return len(self.token_ids)

    @property
    def num_output_tokens(self) -> int:
        return len(self.token_ids) - len(self.prompt_ids)

    @property
    def num_unscheduled_tokens(self) -> int:
        """Tokens that steps not yet planned must compute: 1 for a request that decodes.

        0 if the steps in flight choose the last token, as no token after it is needed.
        """
        known = len(self.token_ids)
        pending = self.num_pending_tokens
        if pending and known + pending >= self.max_total_tokens:
            pending -= 1
        return known + pending - self.num_scheduled_tokens

    @property
    def needs_whole_prompt(self) -> bool:
        """Whether all prompt tokens must be computed, also those in the prefix cache."""
        params = self.params
        scores_missing = (
            params.prompt_logprobs is not None
            and len(self.prompt_logprobs) < self.num_prompt_tokens - 1
        )
        return params.pool or scores_missing

    def forget_prompt(self) -> None:
        """Drop the reports about the prompt: it will be computed again."""
        self.prompt_logprobs.clear()
        del self.pooled[:]

    @property
    def is_prompt_computed(self) -> bool:
        return self.num_computed_tokens >= len(self.prompt_ids)
