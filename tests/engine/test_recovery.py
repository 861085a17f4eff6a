"""A runner dies under the engine, and another takes its place."""

from __future__ import annotations

import asyncio
import random
import threading

import msgspec
import pytest
from prometheus_client import generate_latest

from glmserve.config import SchedulerConfig
from glmserve.contract.step import (
    INVALID_TOKEN_ID,
    MaskSource,
    RunnerLimits,
    StepInput,
    StepOutput,
    no_masks,
)
from glmserve.engine import ChoiceSpec, Engine, EngineState
from glmserve.errors import CrashingRequestError, EngineDeadError
from glmserve.request import RequestStatus, SamplingParams
from glmserve.scheduler import MAX_CRASHES
from support.arrivals import random_arrivals
from support.fakes import LIMITS, AsyncRunner, FakeRunner, expected_output
from support.simulation import SamplingRunner, output_alone, output_of, requests_of
from support.waiting import until
from support.worker_on_thread import WorkerOnThread, drain, serving

POISON = 300


def greedy(max_tokens: int) -> SamplingParams:
    return SamplingParams(max_tokens=max_tokens)


def failing(runner: FakeRunner, step: int) -> FakeRunner:
    runner.fail_at_step = step
    return runner


def metrics(engine: Engine) -> str:
    return generate_latest(engine.stats.registry).decode()


@pytest.fixture(
    params=[(False, False), (True, False), (True, True)], ids=["in turn", "ahead", "late"]
)
def limits(request: pytest.FixtureRequest) -> RunnerLimits:
    """Of a runner that takes one step after the other, and of those that may be ahead."""
    ahead, late = request.param
    return msgspec.structs.replace(LIMITS, resolves_placeholders=ahead, waits_for_steps=late)


@pytest.mark.parametrize("seed", range(4))
async def test_streams_do_not_notice_that_runners_die(limits: RunnerLimits, seed: int) -> None:
    """Requests of all kinds, more than the cache holds, some of them closed early."""
    limits = msgspec.structs.replace(limits, num_blocks=12, max_sequences=6, max_step_tokens=16)
    rng = random.Random(seed)
    runners = [failing(SamplingRunner(limits), step) for step in (4, 12, 14, 30, 32, 60)]
    arrivals = random_arrivals(rng, 25)
    executor = WorkerOnThread(*runners, SamplingRunner(limits))
    async with serving(executor) as engine:
        streams, owners = [], []
        for arrival in arrivals:
            variants = [ChoiceSpec(r.params, r.constraint) for r in requests_of(arrival, 0)]
            streams += engine.submit_group(arrival.prompt, variants)
            owners += [arrival] * len(variants)
            await asyncio.sleep(rng.choice([0, 0, 0.001]))
            if len(streams) % 5 == 0:
                streams[-1].close()
        outputs = await asyncio.gather(*map(drain, streams))
        text = metrics(engine)
    assert "glmserve_worker_restarts_total 6.0" in text
    assert "glmserve_kv_blocks_used 0.0" in text
    for output, arrival, stream in zip(outputs, owners, streams, strict=True):
        expected, _ = output_alone(arrival)
        is_aborted = stream.request.status is RequestStatus.FINISHED_ABORTED
        assert output == (expected[: len(output)] if is_aborted else expected)


async def test_a_runner_that_is_a_step_ahead_dies() -> None:
    """Both steps are dropped, and what was pending is chosen again."""
    first, second = AsyncRunner(), AsyncRunner()
    executor = WorkerOnThread(first, second)
    async with serving(executor) as engine:
        first.last_step = 100
        first.fail_at_step = 6
        second.last_step = 0
        streams = [engine.submit([i, 2], greedy(12)) for i in range(3)]
        outputs = await asyncio.gather(*map(drain, streams))
    assert outputs == [expected_output([i, 2], 12) for i in range(3)]


async def test_an_idle_runner_dies() -> None:
    executor = WorkerOnThread(FakeRunner(), FakeRunner(), FakeRunner())
    async with serving(executor) as engine:
        for restarts in (1, 2):
            executor.kill()
            while f"glmserve_worker_restarts_total {restarts}.0" not in metrics(engine):
                await asyncio.sleep(0.001)
            assert engine.state is EngineState.READY
            assert await drain(engine.submit([7], greedy(3))) == expected_output([7], 3)


async def test_requests_are_queued_while_there_is_no_runner() -> None:
    executor = WorkerOnThread(failing(FakeRunner(), 3), FakeRunner())
    executor.may_restart.clear()
    async with serving(executor) as engine:
        before = engine.submit([1], greedy(9))
        while engine.state is EngineState.READY:
            await asyncio.sleep(0.001)
        assert engine.state is EngineState.RESTARTING
        meanwhile = engine.submit([2], greedy(9))
        closed = engine.submit([3], greedy(9))
        closed.close()
        assert "glmserve_requests_waiting 2.0" in metrics(engine)
        assert engine.loss == "has failed: the fake device is on fire"
        executor.may_restart.set()
        assert await drain(before) == expected_output([1], 9)
        assert await drain(meanwhile) == expected_output([2], 9)
        assert "glmserve_worker_restart_seconds_total 0.0\n" not in metrics(engine)


class PoisonedRunner(FakeRunner):
    """Dies of a token."""

    def execute(self, step: StepInput, masks: MaskSource = no_masks) -> StepOutput:
        if any(POISON in sequence.token_ids for sequence in step.sequences):
            raise RuntimeError("poison")
        return super().execute(step, masks)


async def test_a_request_that_kills_runners_is_given_up_and_all_others_go_on(
    limits: RunnerLimits,
) -> None:
    runners = [PoisonedRunner(limits) for _ in range(MAX_CRASHES + 1)]
    executor = WorkerOnThread(*runners)
    async with serving(executor) as engine:
        healthy = [engine.submit([i, 1], greedy(20)) for i in range(4)]
        poisoned = engine.submit([1, POISON], greedy(5))
        with pytest.raises(CrashingRequestError, match="3 times over its prompt"):
            await drain(poisoned)
        outputs = await asyncio.gather(*map(drain, healthy))
        assert 'glmserve_requests_finished_total{reason="error"} 1.0' in metrics(engine)
        assert "glmserve_kv_blocks_used 0.0" in metrics(engine)
    assert outputs == [expected_output([i, 1], 20) for i in range(4)]
    assert executor.excused == [0, 0, MAX_CRASHES]


async def test_a_runner_that_dies_before_its_first_token_is_replaced_in_turn() -> None:
    runners = [failing(FakeRunner(), 3), failing(FakeRunner(), 0), FakeRunner()]
    async with serving(WorkerOnThread(*runners)) as engine:
        assert await drain(engine.submit([1], greedy(9))) == expected_output([1], 9)
        assert "glmserve_worker_restarts_total 1.0" in metrics(engine)


async def test_the_last_runner_s_death_ends_every_stream() -> None:
    async with serving(WorkerOnThread(failing(FakeRunner(), 3))) as engine:
        stream = engine.submit([1], greedy(9))
        with pytest.raises(EngineDeadError, match="no runner is left"):
            await drain(stream)
        assert engine.state is EngineState.DEAD
        assert engine.died.is_set()
        assert engine.cause_of_death is not None


async def test_a_new_runner_without_finite_logits_is_no_runner() -> None:
    class BrokenRunner(FakeRunner):
        def execute(self, step: StepInput, masks: MaskSource = no_masks) -> StepOutput:
            return StepOutput(step.step_id, [INVALID_TOKEN_ID] * len(step.sequences))

    async with serving(WorkerOnThread(failing(FakeRunner(), 3), BrokenRunner())) as engine:
        with pytest.raises(EngineDeadError, match=r"after a restart .* not finite"):
            await drain(engine.submit([1], greedy(9)))


async def test_streams_can_be_ended_while_there_is_no_runner() -> None:
    executor = WorkerOnThread(failing(FakeRunner(), 3), FakeRunner())
    executor.may_restart.clear()
    async with serving(executor) as engine:
        stream = engine.submit([1], greedy(9))
        while engine.state is EngineState.READY:
            await asyncio.sleep(0.001)
        engine.end_streams()
        with pytest.raises(EngineDeadError, match="shutting down"):
            await drain(stream)
        executor.may_restart.set()
        await asyncio.sleep(0.05)
        assert engine.state is EngineState.DEAD


async def test_a_matcher_is_not_used_twice_at_once() -> None:
    """If the runner of a step is lost, its masks are finished before its matchers go on."""
    gate, in_use = threading.Event(), threading.Event()

    class Slow:
        is_finished = False
        users = 0

        def allowed(self) -> bytes:
            self.users += 1
            assert self.users == 1
            in_use.set()
            gate.wait(10)
            self.users -= 1
            return (1 << 77).to_bytes(32, "little")

        def accept(self, token_id: int) -> None:
            assert token_id == 77

    executor = WorkerOnThread(FakeRunner(), FakeRunner())
    async with serving(executor) as engine:
        stream = engine.submit([1], greedy(3), constraint=Slow())
        await until(in_use.is_set)
        executor.kill()
        await asyncio.sleep(0.2)  # in which a new runner would get its first step
        assert not executor.excused
        gate.set()
        assert await drain(stream) == [77] * 3
        assert output_of(stream.request) == [77] * 3


async def test_foreseen_tokens_survive() -> None:
    limits = msgspec.structs.replace(LIMITS, max_drafts=8)
    config = SchedulerConfig(speculative_tokens=4)
    prompt = [*expected_output([5], 20), 5, *expected_output([5], 20)[:2]]
    executor = WorkerOnThread(failing(FakeRunner(limits), 3), FakeRunner(limits))
    async with serving(executor, config) as engine:
        output = await drain(engine.submit(prompt, greedy(20)))
        assert output == expected_output(prompt, 20)
