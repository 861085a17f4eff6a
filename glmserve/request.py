"""A request as the planning half sees it: token ids in, token ids out."""

from __future__ import annotations

import enum
from array import array
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

import msgspec

from glmserve.contract.prompt_layout import PromptLayout
from glmserve.contract.sampling import Sampling
from glmserve.contract.step import Logprobs


class SamplingParams(msgspec.Struct, frozen=True, kw_only=True):
    """How the tokens of a request are chosen and when they end."""

    max_tokens: int
    """0 only computes the prompt."""
    min_tokens: int = 0
    """Output tokens before which no stop token is chosen."""
    sampling: Sampling = Sampling()
    seed: int = 0
    stop_token_ids: frozenset[int] = frozenset()
    """Ids that end the request; they are not part of its text."""
    top_logprobs: int | None = None
    """Log-probabilities of each output token and this many most likely ones; None: none at all."""
    prompt_logprobs: int | None = None
    """The same for the prompt's tokens but the first."""
    pool: bool = False
    """Report the sum of the last hidden states of the prompt."""

    @property
    def has_default_sampling(self) -> bool:
        """Whether all tokens are chosen by the default SamplingInput, constraints aside."""
        return self.sampling.is_plain_greedy and self.top_logprobs is None and not self.min_tokens


class TokenConstraint(Protocol):
    """Which tokens may come next in one request's output. Stateful; never used by two at once."""

    @property
    def is_finished(self) -> bool:
        """Whether nothing but the end can follow."""
        ...

    def allowed(self) -> bytes:
        """The mask of the next token, as TokenMasks has it. Called on a thread."""
        ...

    def accept(self, token_id: int) -> None:
        """Take note of the token that was chosen."""
        ...


class RequestStatus(enum.IntEnum):
    """Ordered: everything from FINISHED_STOPPED on is finished."""

    HELD = 0
    """Not queued yet: another request computes the same prompt, to be shared."""
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
        """Whether it has ever been given blocks."""
        return self > RequestStatus.WAITING

    @property
    def is_finished(self) -> bool:
        return self >= RequestStatus.FINISHED_STOPPED


FINISH_REASONS: dict[RequestStatus, str] = {
    RequestStatus.FINISHED_STOPPED: "stop",
    RequestStatus.FINISHED_LENGTH: "length",
    RequestStatus.FINISHED_ABORTED: "abort",
    RequestStatus.FINISHED_ERROR: "error",
}


@dataclass
class Progress:
    """What came of a request before it is submitted once more, to go on from there."""

    token_ids: list[int] = field(default_factory=list)
    """Output so far."""
    status: RequestStatus | None = None
    """How it has ended, if that is known already."""
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
    """Token ids that the output may be like: where to look for drafts beside the prompt."""
    tenant: str = ""
    """Whose it is: tenants get shares of the model, however many requests they have."""
    status: RequestStatus = RequestStatus.WAITING
    has_default_sampling: bool = field(init=False)
    """As in `params`; looked up for every token."""
    token_ids: array[int] = field(init=False)
    """Prompt and output so far, int32."""
    num_computed_tokens: int = 0
    """Tokens whose K/V are in the cache."""
    num_scheduled_tokens: int = 0
    """Tokens whose K/V will be in the cache when the steps in flight are done."""
    num_pending_tokens: int = 0
    """Tokens that the steps in flight choose; they are not in `token_ids` yet."""
    num_cached_tokens: int = 0
    """Prompt tokens that the first admission found in the prefix cache."""
    num_preemptions: int = 0
    """Times it lost its blocks, to others or with the runner."""
    num_crashes: int = 0
    """Steps with it that crashed the runner since its last token."""
    layout: PromptLayout | None = None
    """Of the prompt, where the model wants it to have one."""
    num_drafted_tokens: int = 0
    """Output tokens that were guessed ahead."""
    num_accepted_tokens: int = 0
    """Those of them that were right."""
    prompt_logprobs: list[Logprobs] = field(default_factory=list)
    """Of prompt tokens 1, 2, ... as far as they are computed, if the request wants them."""
    pooled: array[float] = field(default_factory=lambda: array("f"))
    """[H] float32, the sum over the prompt's tokens computed so far, if the request wants it."""

    def __post_init__(self) -> None:
        self.has_default_sampling = self.params.has_default_sampling
        self.token_ids = array("i", self.prompt_ids)

    def append(self, token_id: int) -> RequestStatus | None:
        """Add a token; the status with which it ends the request, if it does."""
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
        """Be as far as that, as after a preemption; perhaps it is over. Before it is queued."""
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
        """Tokens to be brought into the cache by steps to come: 1 for a request that decodes.

        0 when nothing is left but to wait: what follows the last token is not wanted.
        """
        known = len(self.token_ids)
        pending = self.num_pending_tokens
        if pending and known + pending >= self.max_total_tokens:
            pending -= 1
        return known + pending - self.num_scheduled_tokens

    @property
    def needs_whole_prompt(self) -> bool:
        """Whether every prompt token has to be computed for this request, cached or not."""
        params = self.params
        scores_missing = (
            params.prompt_logprobs is not None
            and len(self.prompt_logprobs) < self.num_prompt_tokens - 1
        )
        return params.pool or scores_missing

    def forget_prompt(self) -> None:
        """Drop what was reported of the prompt so far: it will be computed again."""
        self.prompt_logprobs.clear()
        del self.pooled[:]

    @property
    def is_prompt_computed(self) -> bool:
        return self.num_computed_tokens >= len(self.prompt_ids)

    @property
    def max_total_tokens(self) -> int:
        """Tokens this request can ever hold, prompt and output."""
        return len(self.prompt_ids) + self.params.max_tokens
