"""What the engine does, for people who look on: merged by tenths of seconds, without content."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterable, Sequence

import msgspec

from glmserve.contract.step import RunnerInfo, ScheduledSequence, StepInput, StepOutput
from glmserve.engine.token_stream import TokenStream
from glmserve.request import FINISH_REASONS, Request
from glmserve.scheduler import SchedulerStats

INTERVAL = 0.1
"""Seconds that one Moment merges."""
_BLOCKS_EVERY = 5
"""Moments between two maps of the blocks."""
_MOST_CELLS = 4096
"""Blocks of a map; of a larger cache, every n-th block is shown."""
_NOT_BEGUN = -1
"""Stands for the number of computed tokens of a request that was in no step yet."""
_MOST_UNREAD = 100
"""Moments that wait for a slow reader before its stream is ended."""


class RequestFacts(msgspec.Struct, frozen=True):
    """A request, without its text."""

    id: int
    arrival: float
    """Seconds, on the clock of Moment.time."""
    tenant: str
    priority: int
    prompt_tokens: int
    adapter_id: int


class Work(msgspec.Struct):
    """What a request gained in one interval, in tokens."""

    id: int
    prefill: int = 0
    recomputed: int = 0
    """Tokens that had been computed before a preemption or the loss of a worker."""
    decoded: int = 0
    cached: int = 0
    """Tokens that the prefix cache had when the request began."""


class Ended(msgspec.Struct, frozen=True):
    """A request has ended."""

    id: int
    reason: str
    output_tokens: int


class Moment(msgspec.Struct):
    """One interval."""

    time: float = 0.0
    """Its end; seconds of a clock that does not jump."""
    steps: int = 0
    step_seconds: float = 0.0
    """Of all its steps together."""
    longest_step: float = 0.0
    tokens: int = 0
    """Chosen tokens."""
    arrived: list[RequestFacts] = []
    work: list[Work] = []
    ended: list[Ended] = []
    lost_workers: int = 0
    first_tokens: list[float] = []
    """Seconds from arrivals to first tokens."""
    gaps: list[float] = []
    """Seconds between two tokens of one request: the middle one and the 95th percentile."""
    stats: dict[str, int] = {}
    """See SchedulerStats."""
    blocks: list[int] | None = None
    """Ids of the requests that hold the blocks; -1: free, -2: free, and in the prefix cache."""
    num_blocks: int = 0
    block_size: int = 0


class StepWatch:
    """Merges steps for readers. While there are none, a step costs one look at `is_on`."""

    def __init__(self) -> None:
        self.is_on = False
        """Whether there are readers."""
        self._readers: set[asyncio.Queue[Moment | None]] = set()
        self._stats: Callable[[], SchedulerStats] | None = None
        self._owners: Callable[[int], list[int]] | None = None
        self._live: Callable[[], Iterable[TokenStream]] = tuple
        self._is_over: Callable[[], bool] = bool
        self._info: RunnerInfo | None = None
        self._count = 0
        self._forget()

    def attach(
        self,
        live: Callable[[], Iterable[TokenStream]],
        stats: Callable[[], SchedulerStats],
        owners: Callable[[int], list[int]],
        is_over: Callable[[], bool],
    ) -> None:
        """Say where to look.

        Args:
            live: the streams that have not ended.
            owners: see Scheduler.block_owners.
            is_over: whether readers should leave, because the server is about to end.
        """
        self._live, self._stats, self._owners, self._is_over = live, stats, owners, is_over

    def begin(self, info: RunnerInfo) -> None:
        """The runner is up."""
        self._info = info

    def arrived(self, requests: Sequence[Request]) -> None:
        """Requests were queued."""
        if self.is_on:
            now = time.perf_counter()
            self._moment.arrived += [_facts(request, now) for request in requests]
            self._awaited |= {request.id: now for request in requests}
            self._reached |= {request.id: _NOT_BEGUN for request in requests}

    def ended(self, request: Request) -> None:
        """A request has ended."""
        if self.is_on:
            reason = FINISH_REASONS[request.status]
            self._moment.ended.append(Ended(request.id, reason, request.num_output_tokens))
            for known in (self._reached, self._last_token, self._awaited):
                known.pop(request.id, None)

    def lost(self) -> None:
        """The runner was lost."""
        self._moment.lost_workers += self.is_on

    def stepped(self, step: StepInput, output: StepOutput, seconds: float) -> None:
        """A step is done. Called only while `is_on`.

        Args:
            seconds: since the step began or the one before it ended.
        """
        moment, now = self._moment, time.perf_counter()
        moment.steps += 1
        moment.step_seconds += seconds
        moment.longest_step = max(moment.longest_step, seconds)
        moment.tokens += len(output.token_ids)
        for sequence in step.sequences:
            reached = self._reached.get(sequence.request_id)
            if reached is None:
                continue  # it has ended since the step was planned
            work = self._work.get(sequence.request_id)
            if work is None:
                work = self._work[sequence.request_id] = Work(sequence.request_id)
            self._reached[sequence.request_id] = _count(work, sequence, reached)
            if sequence.sampling is not None:
                self._note_token(sequence.request_id, now)

    def _note_token(self, request_id: int, now: float) -> None:
        last = self._last_token.get(request_id)
        if last is not None:
            self._gaps.append(now - last)
        elif (arrival := self._awaited.pop(request_id, None)) is not None:
            self._moment.first_tokens.append(now - arrival)
        self._last_token[request_id] = now

    async def read(self) -> AsyncIterator[Moment]:
        """Moments from now on; the first one has all requests that have not ended."""
        queue: asyncio.Queue[Moment | None] = asyncio.Queue(_MOST_UNREAD)
        if not self._readers:
            self._forget()
            self.is_on = True
            self._ticking = asyncio.create_task(self._tick())
        self._readers.add(queue)
        try:
            yield self._present()
            while (moment := await queue.get()) is not None:
                yield moment
        finally:
            self._readers.discard(queue)
            if not self._readers and self.is_on:
                self.is_on = False
                self._ticking.cancel()

    def _forget(self) -> None:
        self._moment = Moment()
        self._work: dict[int, Work] = {}
        self._reached: dict[int, int] = {}  # tokens whose K/V were computed, by request
        self._awaited: dict[int, float] = {}  # arrivals of requests without a token
        self._last_token: dict[int, float] = {}
        self._gaps: list[float] = []

    def _present(self) -> Moment:
        live = list(self._live())
        self._awaited |= {s.request.id: s.arrival for s in live if s.first_token is None}
        for stream in live:
            computed = stream.request.num_computed_tokens if stream.begun else _NOT_BEGUN
            self._reached.setdefault(stream.request.id, computed)
        arrived = [_facts(stream.request, stream.arrival) for stream in live]
        return self._described(Moment(arrived=arrived), has_blocks=True)

    def _described(self, moment: Moment, has_blocks: bool) -> Moment:
        moment.time = time.perf_counter()
        if self._stats is not None and self._owners is not None and self._info is not None:
            moment.stats = self._stats()._asdict()
            moment.blocks = self._owners(_MOST_CELLS) if has_blocks else None
            limits = self._info.limits
            moment.num_blocks, moment.block_size = limits.num_blocks, limits.block_size
        return moment

    async def _tick(self) -> None:
        while True:
            await asyncio.sleep(INTERVAL)
            self._count += 1
            moment = self._described(self._moment, self._count % _BLOCKS_EVERY == 0)
            moment.work = list(self._work.values())
            moment.gaps = _percentiles(self._gaps)
            self._moment, self._work, self._gaps = Moment(), {}, []
            for queue in [*self._readers]:
                if queue.full() or self._is_over():
                    self._readers.discard(queue)
                    while queue.full():
                        queue.get_nowait()
                    queue.put_nowait(None)
                else:
                    queue.put_nowait(moment)


def _facts(request: Request, arrival: float) -> RequestFacts:
    prompt = len(request.prompt_ids)
    return RequestFacts(
        request.id, arrival, request.tenant, request.priority, prompt, request.adapter_id
    )


def _count(work: Work, sequence: ScheduledSequence, reached: int) -> int:
    """Count what a step computed for a request.

    Args:
        reached: how many of its tokens had been computed before, or _NOT_BEGUN.

    Returns:
        How many have been computed now.
    """
    start, count = sequence.start, len(sequence.token_ids)
    if reached == _NOT_BEGUN:
        work.cached = reached = start
    if sequence.sampling is not None and count == 1 + len(sequence.drafts):
        work.decoded += 1
    else:
        again = min(count, max(0, reached - start))
        work.recomputed += again
        work.prefill += count - again
    return max(reached, start + count)


def _percentiles(gaps: list[float]) -> list[float]:
    if not gaps:
        return []
    gaps.sort()
    return [gaps[len(gaps) // 2], gaps[len(gaps) * 95 // 100]]
