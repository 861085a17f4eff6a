"""Prompts beside decodes: how many of their tokens a step takes, by what steps cost."""

from __future__ import annotations

from itertools import pairwise

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from glmserve.config import SchedulerConfig
from glmserve.contract.step import RunnerLimits, StepInput, StepOutput
from glmserve.request import Request, SamplingParams
from glmserve.scheduler import Scheduler
from glmserve.scheduler.step_pace import StepPace

LIMITS = RunnerLimits(
    num_blocks=4000, block_size=16, max_sequences=32, max_step_tokens=512, max_context=4096
)


def learned(limit: float | None = None, decodes: float = 0.1, token: float = 0.001) -> StepPace:
    pace = StepPace(limit)
    for _ in range(9):
        pace.record(4, 0, decodes)
        pace.record(4, 100, decodes + 100 * token)
    return pace


def test_nothing_is_limited_before_anything_is_known() -> None:
    assert StepPace(None).room is None


def test_no_limit() -> None:
    assert learned(0).room is None


def test_decodes_are_measured_before_prompts_join_them() -> None:
    pace = StepPace(None)
    pace.record(0, 300, 0.5)
    assert pace.room == 0
    pace.record(1, 0, 0.1)
    assert pace.room == 120  # (0.3 - 0.1) of 0.5 / 300 each


def test_a_few_tokens_when_only_decodes_are_known() -> None:
    pace = StepPace(None)
    pace.record(1, 0, 0.1)
    assert pace.room == 32


@pytest.mark.parametrize(
    ("limit", "decodes", "room"),
    [
        (None, 0.1, 200),  # three times the decodes
        (None, 0.01, 40),  # 50 ms
        (0.4, 0.1, 300),
        (0.05, 0.1, 32),  # less than the decodes alone
    ],
)
def test_what_is_left_of_the_time(limit: float | None, decodes: float, room: int) -> None:
    assert learned(limit, decodes).room == pytest.approx(room, abs=1)


def test_prompts_that_cost_nothing_are_not_limited() -> None:
    assert learned(token=0.0).room is None


def test_a_step_that_something_has_delayed_changes_nothing() -> None:
    pace = learned()
    before = pace.room
    pace.record(4, 0, 30.0)
    pace.record(4, 100, 30.0)
    assert pace.room == before


def test_small_chunks_say_nothing_about_the_cost_of_prompts() -> None:
    pace = learned()
    for _ in range(20):
        pace.record(4, 8, 0.1)
    assert pace.room == pytest.approx(200, abs=1)


def test_decodes_are_measured_again_from_time_to_time() -> None:
    """They may have become slower, and prompts may come without end."""
    pace = learned()
    rooms = []
    for _ in range(130):
        rooms.append(pace.room)
        pace.record(4, pace.room or 0, 0.1 + 0.001 * (pace.room or 0))
    assert [i for i, room in enumerate(rooms) if room == 0] == [63, 128]


class Clock:
    """Executes a scheduler's steps in virtual time."""

    def __init__(self, scheduler: Scheduler, decode: float, token: float) -> None:
        self.scheduler = scheduler
        self.steps: list[tuple[float, StepInput]] = []
        self._decode, self._token = decode, token

    def run(self, steps: int = 10_000) -> None:
        while steps and (step := self.scheduler.schedule()) is not None:
            prompts = sum(len(s.token_ids) for s in step.sequences if len(s.token_ids) > 1)
            seconds = self._decode + prompts * self._token
            self.steps.append((seconds, step))
            sampled = sum(len(s.sampling_inputs) for s in step.sequences)
            self.scheduler.update(StepOutput(step.step_id, [7] * sampled), seconds)
            steps -= 1


def request(number: int, prompt: int, output: int) -> Request:
    ids = [number * 100_000 + i for i in range(prompt)]
    return Request(number, ids, SamplingParams(max_tokens=output))


def has_decode(step: StepInput, requests: list[Request]) -> bool:
    """A chunk of a prompt may have one token as well."""
    return any(s.start >= requests[s.request_id].num_prompt_tokens for s in step.sequences)


@given(
    st.lists(st.tuples(st.integers(2, 900), st.integers(1, 60)), min_size=2, max_size=20),
    st.floats(0.001, 0.2),
    st.floats(0.0001, 0.01),
    st.integers(1, 30),
)
def test_no_decode_waits_for_long(
    lengths: list[tuple[int, int]], decode: float, token: float, head_start: int
) -> None:
    """And every request gets all its tokens."""
    clock = Clock(Scheduler(SchedulerConfig(), LIMITS, hash_key=b"k"), decode, token)
    requests = [request(i, *length) for i, length in enumerate(lengths)]
    clock.scheduler.add(requests[0])
    clock.run(head_start)
    for later in requests[1:]:
        clock.scheduler.add(later)
    clock.run()
    assert [r.num_output_tokens for r in requests] == [output for _, output in lengths]
    limit = max(3 * decode, 0.05, decode + 32 * token)
    for (_, before), (seconds, step) in pairwise(clock.steps):
        if has_decode(before, requests) and has_decode(step, requests):
            assert seconds <= limit * 1.001


def test_a_prompt_beside_nothing_takes_whole_steps() -> None:
    clock = Clock(Scheduler(SchedulerConfig(), LIMITS, hash_key=b"k"), 0.02, 0.001)
    for i in range(3):
        clock.scheduler.add(request(i, 500, 5))
        clock.run()
    assert [len(s.token_ids) for _, step in clock.steps for s in step.sequences][::5] == [500] * 3


def test_prompts_that_are_never_cut_are_not_limited() -> None:
    limits = RunnerLimits(
        num_blocks=4000,
        block_size=16,
        max_sequences=32,
        max_step_tokens=1024,
        max_context=1000,
        chunked_prefill=False,
    )
    clock = Clock(Scheduler(SchedulerConfig(), limits, hash_key=b"k"), 0.02, 0.001)
    clock.scheduler.add(request(0, 500, 100))
    clock.run(10)
    clock.scheduler.add(request(1, 500, 5))
    clock.run(1)
    assert sorted(len(s.token_ids) for s in clock.steps[-1][1].sequences) == [1, 500]


def test_what_a_step_should_take() -> None:
    pace = StepPace(None)
    assert pace.expected(0) is None
    pace.record(4, 0, 0.1)
    assert pace.expected(0) == 0.1
    assert pace.expected(50) is None
    pace.record(4, 100, 0.2)
    assert pace.expected(50) == pytest.approx(0.15)


def test_steps_are_planned_late_only_behind_others() -> None:
    limits = msgspec.structs.replace(LIMITS, resolves_placeholders=True, waits_for_steps=True)
    scheduler = Scheduler(SchedulerConfig(), limits, hash_key=b"key")
    scheduler.add(Request(0, [1, 2, 3], SamplingParams(max_tokens=3)))
    assert not scheduler.plans_late
    prompt, decode = scheduler.schedule(), scheduler.schedule()
    assert prompt is not None
    assert decode is not None
    assert scheduler.plans_late
    assert scheduler.expected_seconds is None
    scheduler.update(StepOutput(prompt.step_id, [5]), 0.3)
    assert scheduler.expected_seconds is None
    scheduler.update(StepOutput(decode.step_id, [5]), 0.1)
    assert scheduler.schedule() is not None
    assert scheduler.expected_seconds == 0.1
