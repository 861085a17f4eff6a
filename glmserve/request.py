"""A request as the planning half sees it: token ids in, token ids out."""

from __future__ import annotations

import enum
from array import array
from dataclasses import dataclass, field

import msgspec


class SamplingParams(msgspec.Struct, frozen=True, kw_only=True):
    """How the tokens of a request are chosen and when they end."""

    max_tokens: int
    temperature: float = 1.0
    """0 is greedy."""
    top_p: float = 1.0
    top_k: int = 0
    min_p: float = 0.0
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    repetition_penalty: float = 1.0
    logit_bias: dict[int, float] = {}
    seed: int = 0
    stop_token_ids: frozenset[int] = frozenset()
    """Ids that end the request; they are not part of its text."""

    @property
    def is_plain_greedy(self) -> bool:
        """Whether the most likely token is taken as it is."""
        return self.temperature == 0.0 and not self.logit_bias and not self.penalises

    @property
    def penalises(self) -> bool:
        """Whether choosing a token needs the tokens before it."""
        return (
            self.presence_penalty != 0.0
            or self.frequency_penalty != 0.0
            or self.repetition_penalty != 1.0
        )


class RequestStatus(enum.IntEnum):
    """Ordered: everything from FINISHED_STOPPED on is finished."""

    WAITING = 0
    RUNNING = 1
    PREEMPTED = 2
    """Waiting again after its blocks were taken; keeps its tokens."""
    FINISHED_STOPPED = 3
    FINISHED_LENGTH = 4
    FINISHED_ABORTED = 5
    FINISHED_ERROR = 6

    @property
    def is_finished(self) -> bool:
        return self >= RequestStatus.FINISHED_STOPPED


FINISH_REASONS: dict[RequestStatus, str] = {
    RequestStatus.FINISHED_STOPPED: "stop",
    RequestStatus.FINISHED_LENGTH: "length",
    RequestStatus.FINISHED_ABORTED: "abort",
    RequestStatus.FINISHED_ERROR: "error",
}


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
    status: RequestStatus = RequestStatus.WAITING
    token_ids: array[int] = field(init=False)
    """Prompt and output so far, int32."""
    num_computed_tokens: int = 0
    """Tokens whose K/V are in the cache."""
    num_cached_tokens: int = 0
    """Prompt tokens that the first admission found in the prefix cache."""
    num_preemptions: int = 0

    def __post_init__(self) -> None:
        self.token_ids = array("i", self.prompt_ids)

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
    def num_uncomputed_tokens(self) -> int:
        """Tokens still to be brought into the cache: 1 for a request that decodes."""
        return len(self.token_ids) - self.num_computed_tokens

    @property
    def max_total_tokens(self) -> int:
        """Tokens this request can ever hold, prompt and output."""
        return len(self.prompt_ids) + self.params.max_tokens
