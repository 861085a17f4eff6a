"""Requests in the background use what the others leave, and nothing else."""

from __future__ import annotations

import msgspec
import pytest

from glmserve.config import SchedulerConfig
from glmserve.contract.step import RunnerLimits, StepInput, StepOutput
from glmserve.errors import QueueFullError
from glmserve.request import Request, SamplingParams
from glmserve.scheduler import Scheduler
from support.simulation import run_many_in_background

LIMITS = RunnerLimits(
    num_blocks=40,
    block_size=4,
    max_sequences=8,
    max_step_tokens=256,
    max_context=100,
    resolves_placeholders=True,
)

CONFIG = SchedulerConfig()


class Bench:
    """A scheduler, and requests that say 7 until they are through."""

    def __init__(self, config: SchedulerConfig = CONFIG, limits: RunnerLimits = LIMITS) -> None:
        self.scheduler = Scheduler(config, limits, hash_key=b"key")
        run_many_in_background(self.scheduler)
        self.requests: list[Request] = []

    def add(self, prompt: int, answer: int, *, in_background: bool) -> Request:
        """A request with so many tokens."""
        number = len(self.requests)
        ids = [number * 1000 + i for i in range(prompt)]
        params = SamplingParams(max_tokens=answer)
        request = Request(number, ids, params, in_background=in_background)
        self.scheduler.add(request)
        self.requests.append(request)
        return request

    def plan(self) -> StepInput | None:
        return self.scheduler.schedule()

    def finish(self, step: StepInput, seconds: float | None = None) -> None:
        sampled = [7 for sequence in step.sequences if sequence.sampling is not None]
        self.scheduler.update(StepOutput(step.step_id, sampled), seconds)

    def step(self, seconds: float | None = None) -> list[int]:
        """Plan and finish a step; ids of the requests in it."""
        step = self.plan()
        assert step is not None
        self.finish(step, seconds)
        return [sequence.request_id for sequence in step.sequences]


def test_a_step_has_requests_in_the_background_only_while_no_other_needs_one() -> None:
    bench = Bench()
    batch = [bench.add(5, 20, in_background=True) for _ in range(3)]
    assert bench.step() == [0, 1, 2]
    urgent = bench.add(5, 4, in_background=False)
    for _ in range(4):
        assert bench.step() == [urgent.id]
    assert urgent.status.is_finished
    while bench.scheduler.has_work:
        assert urgent.id not in bench.step()
    assert all(request.num_output_tokens == 20 for request in batch)


def test_no_step_in_the_background_is_planned_ahead() -> None:
    bench = Bench()
    bench.add(5, 20, in_background=True)
    first = bench.plan()
    assert first is not None
    assert bench.plan() is None
    urgent = bench.add(5, 4, in_background=False)
    second = bench.plan()  # but any other is
    assert second is not None
    assert [sequence.request_id for sequence in second.sequences] == [urgent.id]
    bench.finish(first)
    bench.finish(second)


def test_a_request_takes_the_blocks_of_those_in_the_background() -> None:
    bench = Bench()
    batch = [bench.add(36, 20, in_background=True) for _ in range(4)]
    while not all(request.num_output_tokens for request in batch[:3]):
        bench.step()
    urgent = bench.add(80, 10, in_background=False)
    assert bench.step() == [urgent.id]
    assert batch[2].num_preemptions == 1
    while bench.scheduler.has_work:
        bench.step()
    assert [request.num_output_tokens for request in bench.requests] == [20, 20, 20, 20, 10]


def test_blocks_of_a_step_in_flight_are_not_taken() -> None:
    bench = Bench()
    batch = [bench.add(36, 20, in_background=True) for _ in range(3)]
    while not all(request.num_output_tokens for request in batch):
        bench.step()
    under_way = bench.plan()
    assert under_way is not None
    urgent = bench.add(80, 10, in_background=False)
    assert bench.plan() is None
    bench.finish(under_way)
    assert bench.step() == [urgent.id]


def test_a_batch_leaves_the_prefix_cache_to_others() -> None:
    bench = Bench()
    first = bench.add(40, 2, in_background=False)
    while not first.status.is_finished:
        bench.step()
    for _ in range(20):  # more blocks than there are
        bench.add(40, 2, in_background=True)
    while bench.scheduler.has_work:
        bench.step()
    again = Request(99, first.prompt_ids, SamplingParams(max_tokens=2))
    bench.scheduler.add(again)
    bench.plan()
    assert again.num_cached_tokens == 36


def test_those_in_the_background_fill_no_queue() -> None:
    bench = Bench(config=SchedulerConfig(max_batch_size=1, queue_size=1))
    bench.add(5, 5, in_background=True)
    bench.add(5, 5, in_background=True)
    with pytest.raises(QueueFullError):
        bench.add(5, 5, in_background=True)
    bench.add(5, 5, in_background=False)
    bench.add(5, 5, in_background=False)
    stats = bench.scheduler.stats
    assert (stats.running, stats.waiting, stats.background) == (0, 2, 2)


def test_prompts_in_the_background_come_in_short_steps() -> None:
    bench = Bench()
    bench.add(4, 30, in_background=False)
    for _ in range(30):
        bench.step(seconds=0.001)
    bench.add(90, 2, in_background=True)
    lengths = []
    while bench.scheduler.has_work:
        step = bench.plan()
        assert step is not None
        lengths.append(len(step.sequences[0].token_ids))
        bench.finish(step, seconds=0.5)
    assert lengths == [32, 47, 11, 1]  # at first it is not known what they cost


@pytest.mark.parametrize(("row", "most"), [(0.0, 8), (0.004, 2), (0.02, 1)])
def test_as_many_run_in_the_background_as_a_short_step_holds(row: float, most: int) -> None:
    """Each takes so many seconds, and a step 10 ms at least."""
    bench = Bench(limits=msgspec.structs.replace(LIMITS, num_blocks=400))
    bench.scheduler._planners._background_pace.places = 1
    for _ in range(30):
        bench.add(1, 90, in_background=True)
    sizes = []
    while bench.scheduler.has_work:
        step = bench.plan()
        assert step is not None
        sizes.append(len(step.sequences))
        bench.finish(step, seconds=0.01 + row * (len(step.sequences) - 1))
    usual = sizes[len(sizes) // 2 : -100]
    assert max(usual) <= most + 1
    assert sum(usual) / len(usual) >= 0.7 * most


class Clock(Bench):
    """A bench on which a step takes 10 ms, and so much more for each request in the background."""

    def __init__(self, extra: float) -> None:
        super().__init__(limits=msgspec.structs.replace(LIMITS, num_blocks=400))
        self.extra = extra
        self.seconds = 0.0

    def timed_step(self) -> list[int]:
        step = self.plan()
        assert step is not None
        ids = [sequence.request_id for sequence in step.sequences]
        rows = sum(
            len(sequence.token_ids)
            for sequence in step.sequences
            if self.requests[sequence.request_id].in_background
        )
        seconds = 0.01 + rows * self.extra
        self.seconds += seconds
        self.finish(step, seconds)
        return ids


@pytest.mark.parametrize("extra", [0.0, 0.0001, 0.005, 0.02])
def test_other_requests_keep_their_speed_beside_a_batch(extra: float) -> None:
    """Each of the steps that both kinds share is paid for by steps without those of the batch."""
    clock = Clock(extra)
    for _ in range(40):
        clock.add(5, 60, in_background=True)
    steps = 0
    for _ in range(60):
        urgent = clock.add(5, 60, in_background=False)
        clock.timed_step()
        clock.seconds -= 0.01  # the prompt's step is not one of its speed
        while not urgent.status.is_finished:
            assert urgent.id in clock.timed_step()
            steps += 1
    assert steps * 0.01 / clock.seconds > 0.95
    progress = sum(r.num_output_tokens for r in clock.requests if r.in_background)
    assert progress > (1000 if extra <= 0.0001 else 0)


def test_a_shared_step_holds_no_more_than_may_run() -> None:
    clock = Clock(0.0)
    for _ in range(20):
        clock.add(5, 60, in_background=True)
    for _ in range(30):
        clock.timed_step()
    for _ in range(7):
        clock.add(5, 60, in_background=False)
    longest = max(len(clock.timed_step()) for _ in range(60))
    assert longest == LIMITS.max_sequences


def test_a_restart_keeps_both_kinds() -> None:
    bench = Bench()
    bench.add(5, 6, in_background=True)
    bench.step()
    bench.add(5, 6, in_background=False)
    bench.step()
    bench.scheduler.restart()
    while bench.scheduler.has_work:
        bench.step()
    assert [request.num_output_tokens for request in bench.requests] == [6, 6]
