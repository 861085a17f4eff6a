"""What the engine did in a tenth of a second, for the board: numbers, and no content."""

from __future__ import annotations

from typing import NamedTuple

import msgspec


class RequestFacts(msgspec.Struct, frozen=True):
    """A request, without its text."""

    id: int
    arrival: float
    """Seconds, on the clock of Moment.time."""
    tenant: str
    priority: int
    prompt_tokens: int
    adapter_id: int
    begun: float | None = None
    """When it first got blocks, if that was before anybody looked."""


class Work(msgspec.Struct):
    """What a request gained in one interval, in tokens. Times are seconds on the clock of
    Moment.time."""

    id: int
    prefill: int = 0
    recomputed: int = 0
    """Tokens that had been computed before a preemption or the loss of a worker."""
    decoded: int = 0
    cached: int = 0
    """Tokens that the prefix cache had when the request began."""
    begin: float = 0.0
    """When its first step of the interval began."""
    prefilled: float = 0.0
    """When the last step with tokens of its prompt ended; 0: none had any."""
    end: float = 0.0
    """When its last step of the interval ended."""


class Ended(msgspec.Struct, frozen=True):
    """A request has ended."""

    id: int
    reason: str
    output_tokens: int
    time: float


class StepCost(NamedTuple):
    """What one step took, and what it had to do."""

    seconds: float
    """Since it began or the step before it ended."""
    rows: int
    """New tokens."""
    context: int
    """Tokens whose K and V it read, of all its sequences and the new ones included."""


class Moment(msgspec.Struct):
    """One interval."""

    time: float = 0.0
    """Its end; seconds of a clock that does not jump."""
    steps: int = 0
    step_seconds: float = 0.0
    """Of all its steps together."""
    longest_step: float = 0.0
    costs: list[StepCost] = []
    """One for each step."""
    tokens: int = 0
    """Chosen tokens."""
    arrived: list[RequestFacts] = []
    work: list[Work] = []
    ended: list[Ended] = []
    preempted: list[int] = []
    """Ids of the requests that wait again at its end: their blocks or their worker were taken."""
    lost_workers: int = 0
    first_tokens: list[float] = []
    """Seconds from arrivals to first tokens."""
    gaps: list[float] = []
    """Seconds between two tokens of one request: the middle one and the 95th percentile."""
    stats: dict[str, int] = {}
    """See SchedulerStats."""
    blocks: list[int] | None = None
    """Ids of the requests that hold the blocks; -1: free, -2: free, and in the prefix cache."""
    shared: list[int] = []
    """Places in `blocks` of those that several requests hold."""
    roots: list[tuple[int, int]] = []
    """Ids of the requests that hold blocks, and the first block of each. Requests with the same
    first block have a prefix in common."""
    hits: list[int] = []
    """Places in `blocks` that were found in the prefix cache."""
    evictions: list[int] = []
    """Places in `blocks` that lost a prefix, because other tokens needed the block."""
    num_blocks: int = 0
    block_size: int = 0
    weight_bytes: int = 0
    """Of the model's weights; 0: not known."""
    token_bytes: float = 0.0
    """Of the K and V of one token in all layers."""
