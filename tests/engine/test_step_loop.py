"""The worker's loop: one step is launched while the one before it computes."""

from __future__ import annotations

import asyncio
import gc
import random
import socket
import threading
import time
from typing import Any

import msgspec
import pytest
from prometheus_client import generate_latest

from glmserve.config import report_nothing
from glmserve.contract.step import (
    MaskSource,
    PendingOutput,
    Runner,
    SamplingInput,
    ScheduledSequence,
    StepInput,
    StepOutput,
    TokenMasks,
    no_masks,
)
from glmserve.contract.wire import decode_worker_message, encode_frame, receive_frame
from glmserve.errors import EngineDeadError, WorkerLostError
from glmserve.request import RequestStatus, SamplingParams
from glmserve.worker.step_loop import execute_steps
from support.fakes import LIMITS, AsyncRunner, FakeRunner, expected_output
from support.flat_sampling import sampling_params
from support.simulation import Arrival, Remainders, SamplingRunner, output_alone, requests_of
from support.worker_on_thread import WorkerOnThread, drain, serving


def greedy(max_tokens: int) -> SamplingParams:
    return SamplingParams(max_tokens=max_tokens)


async def test_every_step_is_launched_before_the_output_of_the_one_before_it(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Penalties and constraints included; AsyncRunner fails where a launch is missing."""
    runner = AsyncRunner()
    async with serving(WorkerOnThread(runner)) as engine:
        runner.last_step = 12
        penalised = sampling_params(12, presence_penalty=0.5)
        stopping = msgspec.structs.replace(greedy(12), stop_token_ids=frozenset(range(32, 48)))
        streams = [
            engine.submit([1, 2], greedy(12)),
            engine.submit([3, 4], penalised),
            engine.submit([5, 6], greedy(12), constraint=Remainders(5)),
            engine.submit([3, 3], stopping),
        ]
        outputs = await asyncio.gather(*(drain(stream) for stream in streams))
    assert outputs[0] == expected_output([1, 2], 12)
    assert outputs[1] == expected_output([3, 4], 12)
    assert len(outputs[2]) == 5
    assert outputs[3] == expected_output([3, 3], len(outputs[3]))
    assert [step.step_id for step in runner.steps[1:]] == [*range(1, 13)]
    assert not caplog.records, "a constraint was asked for what follows its end"


async def test_a_failure_of_the_device_ends_the_worker_with_it(
    caplog: pytest.LogCaptureFixture,
) -> None:
    class Failing(AsyncRunner):
        def execute(  # type: ignore[override]
            self, step: StepInput, masks: MaskSource = no_masks
        ) -> PendingOutput:
            wait = super().execute(step, masks)

            def fail() -> StepOutput:
                if step.step_id == 3:
                    raise RuntimeError("the device fell off the bus")
                return wait()

            return fail

    gc.collect()  # other tests drop futures without looking at them
    caplog.clear()
    executor = WorkerOnThread(Failing())
    async with serving(executor) as engine:
        stream = engine.submit([1], greedy(9))
        with pytest.raises(EngineDeadError):
            await drain(stream)
        assert engine.died.is_set()
    assert str(executor.error) == "the device fell off the bus"
    del executor, engine, stream
    gc.collect()
    assert not caplog.records, "an exception was never retrieved"


async def test_a_failed_launch_ends_the_worker_with_it() -> None:
    runner = AsyncRunner()
    executor = WorkerOnThread(runner)
    async with serving(executor) as engine:
        runner.fail_at_step = 3
        with pytest.raises(EngineDeadError):
            await drain(engine.submit([1], greedy(9)))
    assert str(executor.error) == "the fake device is on fire"


async def test_a_lost_worker_fails_every_step_under_way() -> None:
    runner = FakeRunner()
    runner.fail_at_step = 1
    executor = WorkerOnThread(runner)
    await executor.start(report_nothing)
    steps = [executor.submit(StepInput(i, [sequence(i)])) for i in (1, 2)]
    results = await asyncio.gather(*steps, return_exceptions=True)
    assert [type(result) for result in results] == [WorkerLostError, WorkerLostError]
    await executor.close()


def sequence(request_id: int, constrained: bool = False) -> ScheduledSequence:
    sampling = SamplingInput(constrained=constrained)
    block = (request_id).to_bytes(4, "little")
    return ScheduledSequence(request_id, [7], 0, block, sampling)


def outputs_of(runner: Runner, *frames: StepInput | TokenMasks) -> list[StepOutput]:
    """What the loop answers to frames that are all there before it begins."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        for frame in frames:
            ours.sendall(encode_frame(frame))
        ours.shutdown(socket.SHUT_WR)
        execute_steps(theirs, runner)
        theirs.shutdown(socket.SHUT_WR)
        outputs = []
        while (body := receive_frame(ours)) is not None:
            output = decode_worker_message(bytes(body))
            assert isinstance(output, StepOutput)
            outputs.append(output)
    return outputs


def test_masks_may_come_after_the_next_step() -> None:
    """Masks of steps that were dropped are skipped."""
    outputs = outputs_of(
        FakeRunner(),
        TokenMasks(0, [b"\4"]),
        StepInput(1, [sequence(0, constrained=True)]),
        TokenMasks(0, [b"\4"]),
        StepInput(2, [sequence(1, constrained=True)]),
        TokenMasks(1, [b"\1"]),
        StepInput(3, [sequence(2)]),
        TokenMasks(2, [b"\2"]),
    )
    assert [output.token_ids[0] for output in outputs[:2]] == [0, 1]
    assert [output.step_id for output in outputs] == [1, 2, 3]


def test_outputs_keep_their_order() -> None:
    """Whether they are there at once or have to be waited for."""

    class Fickle(FakeRunner):
        def execute(  # type: ignore[override]
            self, step: StepInput, masks: MaskSource = no_masks
        ) -> StepOutput | PendingOutput:
            output = super().execute(step, masks)

            def wait() -> StepOutput:
                time.sleep(0.01)
                return output

            return output if step.step_id in (1, 3, 4) else wait

    steps = [StepInput(i, [sequence(i)]) for i in range(1, 7)]
    assert [output.step_id for output in outputs_of(Fickle(), *steps)] == [1, 2, 3, 4, 5, 6]


def test_a_step_that_waits_for_masks_in_vain() -> None:
    with pytest.raises(ConnectionResetError):
        outputs_of(FakeRunner(), StepInput(1, [sequence(0, constrained=True)]))


class Stages(FakeRunner):
    """Gives out a step's output once as many steps are launched as it computes at a time.

    But for the first step, which has the prompts, and for steps after `last_step`.
    """

    last_step = 0

    def __init__(self, count: int, *, waits: bool) -> None:
        super().__init__(
            msgspec.structs.replace(
                LIMITS,
                steps_in_flight=count,
                waits_for_steps=waits,
                max_sequences=64,
                max_step_tokens=64,
                num_blocks=200,
            )
        )
        self._launched = threading.Condition()

    def execute(  # type: ignore[override]
        self, step: StepInput, masks: MaskSource = no_masks
    ) -> PendingOutput:
        output = super().execute(step, masks)
        with self._launched:
            self._launched.notify_all()
        ahead = self.info.limits.steps_in_flight - 1 if 1 < step.step_id <= self.last_step else 0

        def wait() -> StepOutput:
            with self._launched:
                is_launched = self._launched.wait_for(
                    lambda: self.steps[-1].step_id >= step.step_id + ahead, timeout=10
                )
            assert is_launched, "the stages wait for steps"
            return output

        return wait


@pytest.mark.parametrize("waits", [False, True])
async def test_as_many_steps_are_in_flight_as_there_are_stages(waits: bool) -> None:
    """Over requests that decode, with penalties or not; also if each stage waits for its steps."""
    runner = Stages(3, waits=waits)
    async with serving(WorkerOnThread(runner)) as engine:
        streams = [
            engine.submit([i, i + 1], sampling_params(20, presence_penalty=0.5 * (i % 2)))
            for i in range(24)
        ]
        runner.last_step = 40
        outputs = await asyncio.gather(*(drain(stream) for stream in streams))
    for i, output in enumerate(outputs):
        assert output == expected_output([i, i + 1], 20)
    for step in runner.steps[4:40]:
        assert len(step.sequences) == 8


@pytest.mark.parametrize("overlap", [{"resolves_placeholders": True}, {"steps_in_flight": 3}])
async def test_requests_of_all_kinds_that_fill_the_cache(overlap: dict[str, Any]) -> None:
    limits = msgspec.structs.replace(
        LIMITS, num_blocks=12, max_sequences=6, max_step_tokens=16, **overlap
    )
    rng = random.Random(1)
    arrivals = [
        Arrival(
            tick=0,
            prompt=[rng.randrange(3) for _ in range(rng.randrange(1, 16))],
            params=sampling_params(
                max_tokens=rng.randrange(1, 20),
                temperature=rng.choice([0.0, 1.0]),
                seed=rng.randrange(100),
                presence_penalty=rng.choice([0.0, 0.5]),
                stop_token_ids=rng.choice([frozenset(), frozenset(range(32, 40))]),
            ),
            constraint_length=rng.choice([None, None, 7]),
        )
        for _ in range(60)
    ]
    async with serving(WorkerOnThread(SamplingRunner(limits))) as engine:
        streams = []
        for arrival in arrivals:
            (request,) = requests_of(arrival, 0)
            streams.append(
                engine.submit(request.prompt_ids, request.params, constraint=request.constraint)
            )
            await asyncio.sleep(rng.choice([0, 0, 0.001]))
            if len(streams) % 5 == 0:
                streams[-2].close()
        outputs = await asyncio.gather(*(drain(stream) for stream in streams))
        assert "glmserve_kv_blocks_used 0.0" in generate_latest(engine.stats.registry).decode()
    for output, arrival, stream in zip(outputs, arrivals, streams, strict=True):
        expected, _ = output_alone(arrival)
        is_aborted = stream.request.status is RequestStatus.FINISHED_ABORTED
        assert output == (expected[: len(output)] if is_aborted else expected)
    assert any(stream.request.num_preemptions for stream in streams)
