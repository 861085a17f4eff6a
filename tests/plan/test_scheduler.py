"""The scheduler's decisions, one at a time."""

from __future__ import annotations

import dataclasses

import msgspec
import pytest

from glmserve.config import SchedulerConfig
from glmserve.contract.sampling import Sampling
from glmserve.contract.step import INVALID_TOKEN_ID, RunnerLimits, StepInput, StepOutput
from glmserve.errors import ContextLengthError, InvalidRequestError, QueueFullError
from glmserve.request import Request, RequestStatus, SamplingParams
from glmserve.scheduler import Scheduler
from support.fakes import LIMITS, FakeRunner, expected_logprobs


def make_scheduler(limits: RunnerLimits = LIMITS, **options: int) -> Scheduler:
    return Scheduler(SchedulerConfig(**options), limits, hash_key=b"key")


def make_request(
    request_id: int, num_prompt: int = 4, max_tokens: int = 4, first: int = 0, **fields: object
) -> Request:
    params = SamplingParams(max_tokens=max_tokens)
    return Request(request_id, list(range(first, first + num_prompt)), params, **fields)  # type: ignore[arg-type]


def scheduled(step: StepInput | None) -> dict[int, int]:
    """Request id -> number of tokens."""
    assert step is not None
    return {s.request_id: len(s.token_ids) for s in step.sequences}


def run(scheduler: Scheduler, runner: FakeRunner, steps: int = 1) -> None:
    for _ in range(steps):
        step = scheduler.schedule()
        assert step is not None
        scheduler.update(runner.execute(step))


def test_requests_join_a_running_batch() -> None:
    scheduler, runner = make_scheduler(), FakeRunner()
    scheduler.add(make_request(0))
    run(scheduler, runner)
    scheduler.add(make_request(1, num_prompt=6, first=50))
    assert scheduled(scheduler.schedule()) == {0: 1, 1: 6}


def test_every_lane_is_used() -> None:
    """A block that holds a whole context never has to grow, so none is kept back."""
    limits = RunnerLimits(
        num_blocks=4,
        block_size=32,
        max_sequences=4,
        max_step_tokens=16,
        max_context=32,
        batch_sizes=(1, 4),
        mixes_prefill_and_decode=False,
        prefix_cache=False,
    )
    scheduler = make_scheduler(limits)
    runner = FakeRunner(limits)
    requests = [make_request(i, 3, 20, first=i) for i in range(6)]
    for request in requests:
        scheduler.add(request)
    run(scheduler, runner)
    assert scheduler.stats.running == 4
    while scheduler.has_work:
        run(scheduler, runner)
    assert all(len(request.token_ids) == 23 for request in requests)
    assert scheduler.stats.preemptions == 0


def test_a_long_prompt_is_chunked_and_does_not_delay_decodes() -> None:
    scheduler, runner = make_scheduler(max_step_tokens=8), FakeRunner()
    scheduler.add(make_request(0, max_tokens=20))
    run(scheduler, runner)
    scheduler.add(make_request(1, num_prompt=20, first=50))
    for expected in ({0: 1, 1: 7}, {0: 1, 1: 7}, {0: 1, 1: 6}, {0: 1, 1: 1}):
        step = scheduler.schedule()
        assert scheduled(step) == expected
        assert step is not None
        scheduler.update(runner.execute(step))


def test_first_come_first_served_and_priority_goes_ahead() -> None:
    scheduler = make_scheduler(max_batch_size=2)
    for request in (make_request(0), make_request(1), make_request(2, priority=-1)):
        scheduler.add(request)
    assert scheduled(scheduler.schedule()).keys() == {2, 0}


def test_equal_beginnings_share_blocks_and_are_counted() -> None:
    scheduler, runner = make_scheduler(), FakeRunner()
    first = make_request(0, num_prompt=10, max_tokens=1)
    scheduler.add(first)
    run(scheduler, runner)
    second = make_request(1, num_prompt=10)
    scheduler.add(second)
    step = scheduler.schedule()
    assert scheduled(step) == {1: 2}
    assert second.num_cached_tokens == 8
    assert (scheduler.stats.prefix_queries, scheduler.stats.prefix_hits) == (20, 8)


def test_the_last_prompt_token_is_always_computed() -> None:
    scheduler, runner = make_scheduler(), FakeRunner()
    scheduler.add(make_request(0, num_prompt=8, max_tokens=1))
    run(scheduler, runner)
    scheduler.add(make_request(1, num_prompt=8))
    assert scheduled(scheduler.schedule()) == {1: 4}


def test_a_running_request_shares_its_computed_blocks() -> None:
    scheduler, runner = make_scheduler(), FakeRunner()
    scheduler.add(make_request(0, num_prompt=10, max_tokens=20))
    run(scheduler, runner)
    scheduler.add(make_request(1, num_prompt=10))
    run(scheduler, runner)
    assert scheduler.stats.used_blocks == 3 + 1


@pytest.mark.parametrize("salt", [b"other", b""])
def test_salt_separates_prefixes(salt: bytes) -> None:
    scheduler, runner = make_scheduler(), FakeRunner()
    scheduler.add(make_request(0, num_prompt=10, max_tokens=1, cache_salt=b"mine"))
    run(scheduler, runner)
    scheduler.add(make_request(1, num_prompt=10, cache_salt=salt))
    assert scheduled(scheduler.schedule()) == {1: 10}


def test_without_blocks_the_youngest_yields_and_is_recomputed() -> None:
    limits = msgspec.structs.replace(LIMITS, num_blocks=5)
    scheduler, runner = make_scheduler(limits), FakeRunner(limits)
    old, young = make_request(0, max_tokens=12), make_request(1, max_tokens=12, first=50)
    scheduler.add(old)
    scheduler.add(young)
    while young.status is not RequestStatus.PREEMPTED:
        run(scheduler, runner)
    assert old.status is RequestStatus.RUNNING
    assert scheduler.stats.preemptions == 1
    while scheduler.has_work:
        run(scheduler, runner)
    assert old.status is young.status is RequestStatus.FINISHED_LENGTH
    assert scheduler.stats.used_blocks == 0


def test_a_preempted_request_returns_before_later_ones() -> None:
    limits = msgspec.structs.replace(LIMITS, num_blocks=5)
    scheduler, runner = make_scheduler(limits), FakeRunner(limits)
    requests = [make_request(i, max_tokens=12, first=50 * i) for i in range(3)]
    for request in requests:
        scheduler.add(request)
    ends = []
    while scheduler.has_work:
        run(scheduler, runner)
        ends += [r.id for r in requests if r.status.is_finished and r.id not in ends]
    assert ends == [0, 1, 2]


def test_abort_frees_blocks_at_once_even_while_a_step_runs() -> None:
    scheduler, runner = make_scheduler(), FakeRunner()
    request = make_request(0)
    scheduler.add(request)
    step = scheduler.schedule()
    assert step is not None
    scheduler.abort(request, RequestStatus.FINISHED_ABORTED)
    assert scheduler.stats.used_blocks == 0
    assert scheduler.update(runner.execute(step)) == []
    assert not scheduler.has_work


def test_aborting_a_waiting_request_forgets_it() -> None:
    scheduler = make_scheduler(max_batch_size=1)
    first, second = make_request(0), make_request(1)
    scheduler.add(first)
    scheduler.add(second)
    scheduler.schedule()
    scheduler.abort(second, RequestStatus.FINISHED_ABORTED)
    scheduler.abort(second, RequestStatus.FINISHED_ABORTED)
    assert scheduler.stats.waiting == 0


def test_the_queue_is_bounded_by_requests_that_cannot_run_yet() -> None:
    scheduler = make_scheduler(max_batch_size=2, queue_size=1)
    for i in range(3):
        scheduler.add(make_request(i))
    with pytest.raises(QueueFullError, match="--queue-size 1"):
        scheduler.add(make_request(3))


def test_stop_token_and_length_end_a_request() -> None:
    scheduler = make_scheduler()
    params = SamplingParams(max_tokens=2, stop_token_ids=frozenset({9}))
    stopping, long = Request(0, [1], params), Request(1, [2], params)
    scheduler.add(stopping)
    scheduler.add(long)
    step = scheduler.schedule()
    assert step is not None
    scheduler.update(StepOutput(step.step_id, [9, 8]))
    assert stopping.status is RequestStatus.FINISHED_STOPPED
    scheduler.schedule()
    scheduler.update(StepOutput(step.step_id, [8]))
    assert long.status is RequestStatus.FINISHED_LENGTH


def test_not_a_number_fails_only_its_request() -> None:
    scheduler = make_scheduler()
    bad, good = make_request(0), make_request(1)
    scheduler.add(bad)
    scheduler.add(good)
    step = scheduler.schedule()
    assert step is not None
    scheduler.update(StepOutput(step.step_id, [INVALID_TOKEN_ID, 3]))
    assert bad.status is RequestStatus.FINISHED_ERROR
    assert good.status is RequestStatus.RUNNING


def test_what_can_never_fit_is_refused() -> None:
    scheduler = make_scheduler()
    with pytest.raises(InvalidRequestError, match="empty"):
        scheduler.add(make_request(0, num_prompt=0))
    with pytest.raises(ContextLengthError, match=r"\(120 in the prompt, 9 in the completion\)"):
        scheduler.add(make_request(1, num_prompt=120, max_tokens=9))


def test_only_penalties_send_the_history() -> None:
    scheduler = make_scheduler()
    for request_id, penalty in ((0, 0.0), (1, 0.5)):
        params = SamplingParams(
            max_tokens=4, seed=3, sampling=Sampling(temperature=1.0, presence_penalty=penalty)
        )
        scheduler.add(Request(request_id, [5, 6], params))
    step = scheduler.schedule()
    assert step is not None
    plain, penalised = (s.sampling for s in step.sequences)
    assert plain is not None
    assert penalised is not None
    assert plain.history == b""
    assert len(penalised.history) == 8
    assert penalised.prompt_length == 2
    assert plain.noise_key == penalised.noise_key


def test_continuations_of_one_prompt_share_its_blocks() -> None:
    """The first computes the prompt, the others only what does not fill a block."""
    scheduler, runner = make_scheduler(), FakeRunner()
    group = [make_request(i, num_prompt=10) for i in range(3)]
    scheduler.add(*group)
    step = scheduler.schedule()
    assert scheduled(step) == {0: 10}
    assert scheduler.stats.waiting == 2
    assert step is not None
    scheduler.update(runner.execute(step))
    assert scheduled(scheduler.schedule()) == {0: 1, 1: 2, 2: 2}
    assert scheduler.stats.used_blocks == 2 + 3


def test_when_the_first_is_aborted_the_next_computes_the_prompt() -> None:
    scheduler = make_scheduler()
    group = [make_request(i, num_prompt=10) for i in range(4)]
    scheduler.add(*group)
    scheduler.abort(group[1], RequestStatus.FINISHED_ABORTED)
    scheduler.abort(group[0], RequestStatus.FINISHED_ABORTED)
    assert scheduled(scheduler.schedule()) == {2: 10}
    assert scheduler.stats.waiting == 1


def test_continuations_count_for_the_queue_one_by_one() -> None:
    scheduler = make_scheduler(queue_size=2, max_batch_size=1)
    with pytest.raises(InvalidRequestError, match="lower n"):
        scheduler.add(*(make_request(i) for i in range(4)))
    assert not scheduler.has_work
    scheduler.add(make_request(7))
    with pytest.raises(QueueFullError):
        scheduler.add(*(make_request(i) for i in range(3)))
    scheduler = make_scheduler(queue_size=2, max_batch_size=1)
    scheduler.add(*(make_request(i) for i in range(3)))
    with pytest.raises(QueueFullError):
        scheduler.add(make_request(9))


def test_without_output_a_request_ends_with_its_prompt() -> None:
    scheduler, runner = make_scheduler(), FakeRunner()
    request = make_request(0, max_tokens=0)
    scheduler.add(request)
    step = scheduler.schedule()
    assert step is not None
    updates = scheduler.update(runner.execute(step))
    assert [(u.request, u.token_id) for u in updates] == [(request, None)]
    assert request.status is RequestStatus.FINISHED_LENGTH
    assert not scheduler.has_work


def test_a_prompt_that_is_scored_is_computed_though_it_is_cached() -> None:
    scheduler, runner = make_scheduler(), FakeRunner()
    scheduler.add(make_request(0, num_prompt=9, max_tokens=1))
    run(scheduler, runner)
    request = make_request(1, num_prompt=9)
    request.params = msgspec.structs.replace(request.params, prompt_logprobs=2)
    scheduler.add(request)
    run(scheduler, runner)
    assert len(runner.steps[-1].sequences[0].token_ids) == 9
    assert request.prompt_logprobs == [expected_logprobs(token, 2) for token in range(1, 9)]


def test_no_stop_token_before_the_least_number_of_tokens() -> None:
    scheduler, runner = make_scheduler(), FakeRunner()
    params = make_request(0).params
    params = msgspec.structs.replace(params, min_tokens=2, stop_token_ids=frozenset({7, 3}))
    request = dataclasses.replace(make_request(0), params=params)
    scheduler.add(request)
    banned = []
    for _ in range(4):
        step = scheduler.schedule()
        assert step is not None
        sampling = step.sequences[0].sampling
        assert sampling is not None
        banned.append(sampling.banned)
        scheduler.update(runner.execute(step))
    assert banned == [(3, 7), (3, 7), (), ()]


class Countdown:
    """A constraint that wants a number of tokens and then the end."""

    def __init__(self, num_tokens: int) -> None:
        self.left = num_tokens
        self.accepted: list[int] = []

    @property
    def is_finished(self) -> bool:
        return self.left == 0

    def allowed(self) -> bytes:
        return bytes([0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1])  # id 96 alone

    def accept(self, token_id: int) -> None:
        self.accepted.append(token_id)
        self.left -= 1


def test_a_constraint_sees_every_token_and_ends_its_request() -> None:
    scheduler, runner = make_scheduler(), FakeRunner()
    constraint = Countdown(2)
    scheduler.add(make_request(0, num_prompt=40, constraint=constraint))
    scheduler.add(make_request(1, first=50))
    updates = []
    while (step := scheduler.schedule()) is not None:
        masks = [r.constraint.allowed() for r in scheduler.constrained_in_flight if r.constraint]
        updates += scheduler.update(runner.execute(step, lambda masks=masks: masks))
    tokens = [u.token_id for u in updates if u.request.id == 0]
    assert tokens == constraint.accepted == [96, 96]
    assert {u.request.status for u in updates if u.request.id == 0} == {
        RequestStatus.FINISHED_STOPPED
    }
