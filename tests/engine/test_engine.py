"""The engine loop with a fake runner on a thread."""

from __future__ import annotations

import asyncio
import math
import struct
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from unittest import mock

import msgspec
import pytest
from prometheus_client import generate_latest

from glmserve.config import LoadProgress, ReportProgress, SchedulerConfig
from glmserve.contract.step import (
    INVALID_TOKEN_ID,
    Logprobs,
    MaskSource,
    Runner,
    RunnerLimits,
    StepInput,
    StepOutput,
    no_masks,
)
from glmserve.engine import ChoiceSpec, Engine, EngineState, NewTokens, TokenStream
from glmserve.errors import EngineDeadError, GlmserveError, NotReadyError, OptionError, StartupError
from glmserve.executor import InlineExecutor
from glmserve.request import RequestStatus, SamplingParams
from glmserve.scheduler.drafter import AdaptiveDrafter
from support.fakes import LIMITS, FakeRunner, expected_logprobs, expected_output
from support.simulation import oracle
from support.token_streams import next_tokens
from support.waiting import until

AHEAD = msgspec.structs.replace(LIMITS, resolves_placeholders=True)
LATE = msgspec.structs.replace(AHEAD, waits_for_steps=True)


@pytest.fixture(params=[LIMITS, AHEAD, LATE], ids=["in turn", "ahead", "late"])
def limits(request: pytest.FixtureRequest) -> RunnerLimits:
    """Of a runner that takes one step after the other, and of those that may be ahead."""
    found: RunnerLimits = request.param
    return found


def no_progress(progress: LoadProgress) -> None:
    """Ignores everything."""


@asynccontextmanager
async def running_engine(runner: FakeRunner) -> AsyncIterator[Engine]:
    engine = Engine(InlineExecutor(lambda _: runner), SchedulerConfig(), hash_key=b"key")
    await engine.start(no_progress)
    try:
        yield engine
    finally:
        await engine.close()


def greedy(max_tokens: int) -> SamplingParams:
    return SamplingParams(max_tokens=max_tokens)


async def drain(stream: TokenStream) -> list[int]:
    tokens: list[int] = []
    while new := (await next_tokens(stream)).token_ids:
        tokens += new
    return tokens


async def test_many_requests_each_get_their_own_tokens(limits: RunnerLimits) -> None:
    prompts = [[i, i + 1, i * 3] for i in range(40)]
    async with running_engine(FakeRunner(limits)) as engine:
        streams = [engine.submit(prompt, greedy(10)) for prompt in prompts]
        outputs = await asyncio.gather(*(drain(stream) for stream in streams))
        assert outputs == [expected_output(prompt, 10) for prompt in prompts]
        assert f"glmserve_output_tokens_total {40 * 10}.0" in metrics(engine)
        assert "glmserve_kv_blocks_used 0.0" in metrics(engine)


async def test_stop_tokens_end_streams(limits: RunnerLimits) -> None:
    expected = expected_output([1, 2], 12)
    async with running_engine(FakeRunner(limits)) as engine:
        stop = frozenset({expected[5]})
        stream = engine.submit([1, 2], msgspec.structs.replace(greedy(12), stop_token_ids=stop))
        assert await drain(stream) == expected[:6]
        assert "glmserve_output_tokens_total 6.0" in metrics(engine)
        assert "glmserve_kv_blocks_used 0.0" in metrics(engine)
        assert await drain(engine.submit([1, 2], greedy(12))) == expected


class Watched(InlineExecutor):
    """Notes the requests of each step."""

    def __init__(self, runner: FakeRunner) -> None:
        super().__init__(lambda _: runner)
        self.submitted: list[list[int]] = []

    def submit(self, step: StepInput) -> asyncio.Future[StepOutput]:
        self.submitted.append([s.request_id for s in step.sequences])
        return super().submit(step)


@asynccontextmanager
async def watched_engine(runner: FakeRunner) -> AsyncIterator[tuple[Engine, list[list[int]]]]:
    """An engine, and the requests of each of its steps from now on."""
    executor = Watched(runner)
    engine = Engine(executor, SchedulerConfig(), hash_key=b"key")
    await engine.start(no_progress)
    executor.submitted.clear()
    try:
        yield engine, executor.submitted
    finally:
        await engine.close()


async def test_what_arrives_during_a_step_with_none_behind_it_is_planned_at_once() -> None:
    runner = FakeRunner(AHEAD)
    async with watched_engine(runner) as (engine, submitted):
        runner.gate = threading.Event()
        streams = [engine.submit([1, 2], greedy(1))]
        await until(lambda: submitted == [[0]])
        streams += [engine.submit([3, i], greedy(1)) for i in range(2)]
        await until(lambda: submitted[1:])
        assert submitted == [[0], [1, 2]]
        runner.gate.set()
        outputs = [await drain(stream) for stream in streams]
        assert outputs == [expected_output(prompt, 1) for prompt in ([1, 2], [3, 0], [3, 1])]


async def test_a_step_of_unknown_length_has_none_behind_it_where_steps_are_planned_late() -> None:
    runner = FakeRunner(LATE)
    async with watched_engine(runner) as (engine, submitted):
        runner.gate = threading.Event()
        streams = [engine.submit([1, 2], greedy(2))]
        await until(lambda: submitted == [[0]])
        streams.append(engine.submit([3], greedy(1)))
        await asyncio.sleep(0.02)
        assert submitted == [[0]]
        runner.gate.set()
        outputs = [await drain(stream) for stream in streams]
        assert outputs == [expected_output([1, 2], 2), expected_output([3], 1)]


async def test_a_step_that_should_end_has_one_behind_it_where_steps_are_planned_late() -> None:
    """The time of the decode steps before is known. This one should end at once, and does not."""

    class Holding(FakeRunner):
        hold_at = -1

        def execute(self, step: StepInput, masks: MaskSource = no_masks) -> StepOutput:
            if len(self.steps) == self.hold_at:
                assert release.wait(timeout=30)
            return super().execute(step, masks)

    runner, release = Holding(LATE), threading.Event()
    async with watched_engine(runner) as (engine, submitted):
        runner.hold_at = len(runner.steps) + 6
        stream = engine.submit([1, 2], greedy(20))
        await until(lambda: len(submitted) == 8)
        assert len(runner.steps) == runner.hold_at
        release.set()
        assert await drain(stream) == expected_output([1, 2], 20)


async def test_a_slow_consumer_finds_all_tokens_at_once() -> None:
    async with running_engine(FakeRunner()) as engine:
        stream = engine.submit([1], greedy(10))
        while not stream.request.status.is_finished:
            await asyncio.sleep(0.001)
        assert (await next_tokens(stream)).token_ids == expected_output([1], 10)
        assert (await next_tokens(stream)).token_ids == []


async def test_closing_a_stream_frees_its_blocks_at_once(limits: RunnerLimits) -> None:
    async with running_engine(FakeRunner(limits)) as engine:
        stream = engine.submit([1], greedy(100))
        await next_tokens(stream)
        stream.close()
        assert "glmserve_kv_blocks_used 0.0" in metrics(engine)
        assert 'glmserve_requests_finished_total{reason="abort"} 1.0' in metrics(engine)
        stream.close()
        assert await engine_still_works(engine)


async def test_a_lost_runner_ends_every_stream_with_an_error(limits: RunnerLimits) -> None:
    runner = FakeRunner(limits)
    async with running_engine(runner) as engine:
        stream = engine.submit([1], greedy(100))
        await next_tokens(stream)
        runner.fail_at_step = 0
        with pytest.raises(EngineDeadError, match="on fire"):
            await drain(stream)
        assert engine.died.is_set()
        assert engine.state is EngineState.DEAD
        with pytest.raises(EngineDeadError):
            engine.submit([1], greedy(1))
    assert runner.closed


async def test_a_slow_step_leaves_the_event_loop_free(limits: RunnerLimits) -> None:
    runner = FakeRunner(limits)
    async with running_engine(runner) as engine:
        runner.gate = threading.Event()
        stream = engine.submit([1], greedy(2))
        await asyncio.sleep(0.05)
        assert engine.state is EngineState.READY
        runner.gate.set()
        assert await drain(stream) == expected_output([1], 2)


async def test_not_ready_while_loading() -> None:
    release = threading.Event()

    def build(progress: ReportProgress) -> Runner:
        progress(LoadProgress("weights", 1, 4))
        release.wait(timeout=30)
        return FakeRunner()

    engine = Engine(InlineExecutor(build), SchedulerConfig(), hash_key=b"key")
    starting = asyncio.create_task(engine.start(no_progress))
    await until(lambda: engine.load_progress == ("weights", 1, 4))
    with pytest.raises(NotReadyError):
        engine.submit([1], greedy(1))
    with pytest.raises(NotReadyError):
        _ = engine.info
    release.set()
    await starting
    assert await engine_still_works(engine)
    await engine.close()


async def test_a_model_without_finite_logits_is_never_ready() -> None:
    class BrokenRunner(FakeRunner):
        def execute(self, step: StepInput, masks: MaskSource = no_masks) -> StepOutput:
            return StepOutput(step.step_id, [INVALID_TOKEN_ID] * len(step.sequences))

    engine = Engine(InlineExecutor(lambda _: BrokenRunner()), SchedulerConfig(), hash_key=b"key")
    with pytest.raises(StartupError, match="not finite"):
        await engine.start(no_progress)
    assert engine.state is EngineState.LOADING
    await engine.close()


async def test_tokens_that_were_foreseen_arrive_together() -> None:
    runner = FakeRunner(msgspec.structs.replace(LIMITS, max_drafts=8))
    config = SchedulerConfig(speculative_tokens=4)
    engine = Engine(InlineExecutor(lambda _: runner), config, hash_key=b"key")
    await engine.start(no_progress)
    with mock.patch.object(AdaptiveDrafter, "guess", oracle(error_every=1000)):
        streams = [engine.submit([i, 2, 3], greedy(12)) for i in range(2)]
        outputs = await asyncio.gather(*map(drain, streams))
    await engine.close()
    assert outputs == [expected_output([i, 2, 3], 12) for i in range(2)]
    assert len(runner.steps) == 1 + 4  # one token of the proof; 1, then 5, 5 and 1 of 12


async def test_drafts_are_refused_where_the_runner_takes_none() -> None:
    config = SchedulerConfig(speculative_tokens=4)
    engine = Engine(InlineExecutor(lambda _: FakeRunner()), config, hash_key=b"key")
    with pytest.raises(OptionError, match=r"--speculative-tokens .* fake takes no guessed"):
        await engine.start(no_progress)
    await engine.close()


async def test_more_demand_than_cache(limits: RunnerLimits) -> None:
    runner = FakeRunner(msgspec.structs.replace(limits, num_blocks=8))
    async with running_engine(runner) as engine:
        streams = [engine.submit([i], greedy(25)) for i in range(20)]
        outputs = await asyncio.gather(*(drain(stream) for stream in streams))
        assert outputs == [expected_output([i], 25) for i in range(20)]
        assert any(stream.request.num_preemptions for stream in streams)
        assert all(s.request.status is RequestStatus.FINISHED_LENGTH for s in streams)


def metrics(engine: Engine) -> str:
    return generate_latest(engine.stats.registry).decode()


async def engine_still_works(engine: Engine) -> bool:
    return await drain(engine.submit([7], greedy(3))) == expected_output([7], 3)


class OnlyId:
    """A constraint that always wants the same token."""

    is_finished = False

    def __init__(self, token_id: int, error: GlmserveError | None = None) -> None:
        self.token_id = token_id
        self.error = error

    def allowed(self) -> bytes:
        if self.error is not None:
            raise self.error
        return (1 << self.token_id).to_bytes(32, "little")

    def accept(self, token_id: int) -> None:
        assert token_id == self.token_id


async def test_constraints_hold_for_their_own_requests(limits: RunnerLimits) -> None:
    async with running_engine(FakeRunner(limits)) as engine:
        streams = [
            engine.submit([i], greedy(5), constraint=OnlyId(200 + i) if i % 2 else None)
            for i in range(6)
        ]
        outputs = await asyncio.gather(*(drain(stream) for stream in streams))
        for i, output in enumerate(outputs):
            assert output == ([200 + i] * 5 if i % 2 else expected_output([i], 5))


async def test_a_failing_constraint_fails_its_request_alone(limits: RunnerLimits) -> None:
    async with running_engine(FakeRunner(limits)) as engine:
        broken = engine.submit([1], greedy(5), constraint=OnlyId(0, GlmserveError("too complex")))
        healthy = engine.submit([2], greedy(5), constraint=OnlyId(77))
        with pytest.raises(GlmserveError, match="too complex"):
            await drain(broken)
        assert await drain(healthy) == [77] * 5
        assert "glmserve_kv_blocks_used 0.0" in metrics(engine)


async def test_a_constraint_with_a_bug_fails_its_request_alone(limits: RunnerLimits) -> None:
    class Buggy(OnlyId):
        def allowed(self) -> bytes:
            raise ZeroDivisionError

    async with running_engine(FakeRunner(limits)) as engine:
        broken = engine.submit([1], greedy(5), constraint=Buggy(0))
        healthy = engine.submit([2], greedy(5), constraint=OnlyId(77))
        with pytest.raises(GlmserveError, match="could not be followed"):
            await drain(broken)
        assert await drain(healthy) == [77] * 5


async def test_a_panic_ends_every_stream_instead_of_stopping_it(limits: RunnerLimits) -> None:
    class Panic(BaseException):
        """What extensions written in Rust raise."""

    class Panicking(OnlyId):
        def allowed(self) -> bytes:
            raise Panic

    async with running_engine(FakeRunner(limits)) as engine:
        streams = [engine.submit([1], greedy(5), constraint=Panicking(0))]
        streams.append(engine.submit([2], greedy(5)))
        for stream in streams:
            with pytest.raises(EngineDeadError):
                await drain(stream)
        assert engine.died.is_set()


async def test_closing_while_a_step_waits_for_masks(limits: RunnerLimits) -> None:
    gate = threading.Event()

    class Slow(OnlyId):
        def allowed(self) -> bytes:
            gate.wait(30)
            return super().allowed()

    async with running_engine(FakeRunner(limits)) as engine:
        stream = engine.submit([1], greedy(5), constraint=Slow(1))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
    gate.set()
    with pytest.raises(EngineDeadError):
        await drain(stream)


async def test_continuations_and_logprobs_arrive_together(limits: RunnerLimits) -> None:
    runner = FakeRunner(limits)
    prompt = [1, 2, 3, 4, 5, 6]
    async with running_engine(runner) as engine:
        params = msgspec.structs.replace(greedy(4), top_logprobs=2, prompt_logprobs=1)
        streams = engine.submit_group(prompt, [ChoiceSpec(params), ChoiceSpec(greedy(4))])
        new = NewTokens([], [])
        while (more := await next_tokens(streams[0])).token_ids:
            new = NewTokens(new.token_ids + more.token_ids, new.logprobs + more.logprobs)
        assert new.token_ids == await drain(streams[1]) == expected_output(prompt, 4)
        assert new.logprobs == [expected_logprobs(token, 2) for token in new.token_ids]
        assert streams[0].request.prompt_logprobs == [expected_logprobs(t, 1) for t in prompt[1:]]
        computed = sum(len(s.token_ids) for step in runner.steps for s in step.sequences)
        assert computed == 1 + 6 + 2 + 3 + 3  # one token at the start; two behind the shared block


async def test_nothing_is_computed_for_streams_that_were_ended(limits: RunnerLimits) -> None:
    runner = FakeRunner(limits)
    async with running_engine(runner) as engine:
        streams = [engine.submit([i, i, i], greedy(100)) for i in range(3)]
        await next_tokens(streams[0])
        engine.end_streams()
        for stream in streams:
            with pytest.raises(EngineDeadError):
                await drain(stream)
        num_steps = len(runner.steps)
        await asyncio.sleep(0.05)
        assert len(runner.steps) <= num_steps + 2  # those that were under way


@pytest.mark.parametrize("wanted", [{"pool": True}, {"prompt_logprobs": 0}])
async def test_a_prompt_whose_numbers_are_not_finite_fails(wanted: dict[str, Any]) -> None:
    class NanRunner(FakeRunner):
        def execute(self, step: StepInput, masks: MaskSource = no_masks) -> StepOutput:
            output = super().execute(step, masks)
            return msgspec.structs.replace(
                output,
                scores=[[Logprobs(math.nan, [], []) for _ in score] for score in output.scores],
                pooled=[struct.pack("f", math.nan) for _ in output.pooled],
            )

    async with running_engine(NanRunner()) as engine:
        stream = engine.submit([1, 2, 3], msgspec.structs.replace(greedy(0), **wanted))
        with pytest.raises(GlmserveError, match="not finite"):
            await drain(stream)
        assert await drain(engine.submit([4], greedy(3))) == expected_output([4], 3)
        assert "glmserve_kv_blocks_used 0.0" in metrics(engine)
        assert "glmserve_output_tokens_total 3.0" in metrics(engine)


async def test_a_request_for_its_prompt_alone(limits: RunnerLimits) -> None:
    async with running_engine(FakeRunner(limits)) as engine:
        stream = engine.submit([1, 2, 3], msgspec.structs.replace(greedy(0), pool=True))
        assert await drain(stream) == []
        assert list(stream.request.pooled) == [6.0]
        assert stream.request.status is RequestStatus.FINISHED_LENGTH
        assert "glmserve_output_tokens_total 0.0" in metrics(engine)
