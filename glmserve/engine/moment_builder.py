"""Merges what happens in the engine into Moments."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence

from glmserve.contract.step import ScheduledSequence, StepInput, StepOutput
from glmserve.engine.moment import Ended, Moment, RequestFacts, StepCost, Work
from glmserve.engine.token_stream import TokenStream
from glmserve.request import FINISH_REASONS, Request

_NOT_BEGUN = -1
"""Stands for the number of computed tokens of a request that was in no step yet."""


class MomentBuilder:
    """Counts from the last `take` on."""

    def __init__(self, live: Iterable[TokenStream]) -> None:
        self._moment = Moment()
        self._work: dict[int, Work] = {}
        self._reached: dict[int, int] = {}  # tokens whose K/V were computed, by request
        self._awaited: dict[int, float] = {}  # arrivals of requests without a token
        self._last_token: dict[int, float] = {}
        self._gaps: list[float] = []
        self._hits: set[int] = set()
        self._evictions: set[int] = set()
        for stream in live:
            self._know(stream)

    def arrived(self, requests: Sequence[Request]) -> None:
        """Requests were queued."""
        now = time.perf_counter()
        self._moment.arrived += [facts_of(request, now) for request in requests]
        self._awaited |= {request.id: now for request in requests}
        self._reached |= {request.id: _NOT_BEGUN for request in requests}

    def ended(self, request: Request) -> None:
        """A request has ended."""
        reason, now = FINISH_REASONS[request.status], time.perf_counter()
        self._moment.ended.append(Ended(request.id, reason, request.num_output_tokens, now))
        for known in (self._reached, self._last_token, self._awaited):
            known.pop(request.id, None)

    def lost(self) -> None:
        """The runner was lost."""
        self._moment.lost_workers += 1

    def stepped(self, step: StepInput, output: StepOutput, seconds: float) -> None:
        """A step is done.

        Args:
            seconds: since the step began or the one before it ended.
        """
        moment, now = self._moment, time.perf_counter()
        moment.steps += 1
        moment.step_seconds += seconds
        moment.longest_step = max(moment.longest_step, seconds)
        moment.tokens += len(output.token_ids)
        rows = context = 0
        for sequence in step.sequences:
            count = len(sequence.token_ids)
            rows += count
            context += sequence.start + count
            reached = self._reached.get(sequence.request_id)
            if reached is None:
                continue  # it has ended since the step was planned
            work = self._work.get(sequence.request_id)
            if work is None:
                work = Work(sequence.request_id, begin=now - seconds)
                self._work[sequence.request_id] = work
            work.end = now
            self._reached[sequence.request_id] = _count(work, sequence, reached)
            if sequence.sampling is not None:
                self._note_token(sequence.request_id, now)
        moment.costs.append(StepCost(seconds, rows, context))

    def hit(self, block: int) -> None:
        """A block was found in the prefix cache."""
        self._hits.add(block)

    def evicted(self, block: int) -> None:
        """A block lost a prefix."""
        self._evictions.add(block)

    def take(self, blocks_of_a_cell: int) -> Moment:
        """Everything since the last call.

        Args:
            blocks_of_a_cell: every so many blocks, the map shows one.
        """
        moment = self._moment
        moment.work = list(self._work.values())
        moment.gaps = _percentiles(self._gaps)
        moment.hits = _cells(self._hits, blocks_of_a_cell)
        moment.evictions = _cells(self._evictions, blocks_of_a_cell)
        self._moment, self._work, self._gaps = Moment(), {}, []
        self._hits, self._evictions = set(), set()
        return moment

    def _know(self, stream: TokenStream) -> None:
        """Count from the present state of a request on."""
        request = stream.request
        if stream.first_token is None:
            self._awaited[request.id] = stream.arrival
        has_begun = stream.begun is not None
        self._reached[request.id] = request.num_computed_tokens if has_begun else _NOT_BEGUN

    def _note_token(self, request_id: int, now: float) -> None:
        last = self._last_token.get(request_id)
        if last is not None:
            self._gaps.append(now - last)
        elif (arrival := self._awaited.pop(request_id, None)) is not None:
            self._moment.first_tokens.append(now - arrival)
        self._last_token[request_id] = now


def facts_of(request: Request, arrival: float, begun: float | None = None) -> RequestFacts:
    """What is shown of a request.

    Args:
        arrival: when it arrived, seconds.
        begun: see RequestFacts.
    """
    prompt = len(request.prompt_ids)
    return RequestFacts(
        request.id, arrival, request.tenant, request.priority, prompt, request.adapter_id, begun
    )


def _count(work: Work, sequence: ScheduledSequence, reached: int) -> int:
    """Count what a step that ended at `work.end` computed for a request.

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
        work.prefilled = work.end
    return max(reached, start + count)


def _percentiles(gaps: list[float]) -> list[float]:
    if not gaps:
        return []
    gaps.sort()
    return [gaps[len(gaps) // 2], gaps[len(gaps) * 95 // 100]]


def _cells(blocks: Iterable[int], every: int) -> list[int]:
    return [block // every for block in blocks if block % every == 0]
