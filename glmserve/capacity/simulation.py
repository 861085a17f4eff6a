"""The scheduler itself under a virtual clock."""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Sequence
from typing import NamedTuple

from glmserve.capacity.calibration import Calibration
from glmserve.capacity.workload import Load
from glmserve.config import SchedulerConfig
from glmserve.contract.step import StepOutput
from glmserve.errors import GlmserveError
from glmserve.request import Request, SamplingParams
from glmserve.scheduler import Scheduler

_TOKEN = 0
"""What every answer consists of. No answer ends before its length."""

_HTTP_SECONDS = 0.0008
"""From a client's request to the engine's receipt, and from a token to the client, together: a chat
request of one token to the null device took 0.64 to 0.82 ms (2026-11-29, AMD EPYC)."""


class Outcome(NamedTuple):
    """What became of the requests of one server. Times are virtual seconds."""

    first_tokens: list[float]
    """From each request's arrival to its first token."""
    gaps: list[float]
    """Between two tokens of a request, of all requests."""
    num_refused: int
    """Requests that the server cannot take, such as those longer than its context."""
    num_tokens: int
    """Sampled."""
    busy: float
    """Seconds in which it computed."""
    end: float
    """When the last token came."""
    num_preemptions: int


class _StepInFlight(NamedTuple):
    output: StepOutput
    seconds: float
    end: float


class Simulation:
    """One server.

    Args:
        calibration: of its device.
        config: its options.
        loads: its requests, by time.
    """

    def __init__(
        self, calibration: Calibration, config: SchedulerConfig, loads: Sequence[Load]
    ) -> None:
        self._costs = calibration.costs
        self._scheduler = Scheduler(config, calibration.limits, hash_key=b"capacity")
        self._to_come = deque(loads)
        self._arrivals: dict[int, float] = {}
        self._last_tokens: dict[int, float] = {}
        self._rng = random.Random(0)
        self._in_flight: deque[_StepInFlight] = deque()
        self._now = 0.0
        self._busy = 0.0
        self._first_tokens: list[float] = []
        self._gaps: list[float] = []
        self._num_refused = 0

    def run(self) -> Outcome:
        """Until every request has ended."""
        while True:
            self._arrive()
            self._begin_steps()
            if self._in_flight:
                step = self._in_flight.popleft()
                self._now = step.end
                self._deliver(step)
            elif self._to_come:
                self._now = self._to_come[0].time
            else:
                break
        stats = self._scheduler.stats
        return Outcome(
            self._first_tokens,
            self._gaps,
            self._num_refused,
            len(self._first_tokens) + len(self._gaps),
            self._busy,
            self._now,
            stats.preemptions,
        )

    def _arrive(self) -> None:
        while self._to_come and self._to_come[0].time <= self._now:
            load = self._to_come.popleft()
            number = len(self._arrivals)
            params = SamplingParams(max_tokens=load.num_output_tokens)
            request = Request(number, load.prompt_ids, params, load.priority, tenant=load.tenant)
            self._arrivals[number] = load.time
            try:
                self._scheduler.add(request)
            except GlmserveError:
                self._num_refused += 1

    def _begin_steps(self) -> None:
        """As many as may be in flight; each begins when the one before it has ended."""
        while (step := self._scheduler.schedule()) is not None:
            begin = self._in_flight[-1].end if self._in_flight else self._now
            seconds = self._costs.seconds(step) * self._rng.choice(self._costs.spread)
            self._busy += seconds
            num_sampled = sum(len(sequence.sampling_inputs) for sequence in step.sequences)
            output = StepOutput(step.step_id, [_TOKEN] * num_sampled)
            self._in_flight.append(_StepInFlight(output, seconds, begin + seconds))

    def _deliver(self, step: _StepInFlight) -> None:
        updates = self._scheduler.update(step.output, step.seconds)
        for update in updates:
            number = update.request.id
            if number in self._last_tokens:
                self._gaps.append(self._now - self._last_tokens[number])
            else:
                self._first_tokens.append(self._now - self._arrivals[number] + _HTTP_SECONDS)
            self._last_tokens[number] = self._now
