"""Real worker processes of the null device, and how they end."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec
import pytest
import uvloop

from glmserve.config import (
    EMBEDDED_CHECKPOINT,
    RunnerConfig,
    SchedulerConfig,
    SupervisionConfig,
    report_nothing,
)
from glmserve.contract.step import (
    PLACEHOLDER_TOKEN_ID,
    SamplingInput,
    ScheduledSequence,
    StepInput,
    TokenMasks,
)
from glmserve.engine import Engine
from glmserve.errors import EngineDeadError, StartupError, WorkerLostError
from glmserve.executor import ProcessExecutor, worker_process
from glmserve.request import SamplingParams
from support.device_plugin import install_device
from support.server_process import children, is_worker
from support.watchdogs import Watchdogs
from support.worker_on_thread import drain

CONFIG = RunnerConfig(checkpoint=str(EMBEDDED_CHECKPOINT), device="null")
BLOCK = (0).to_bytes(4, "little")
STEP = StepInput(1, [ScheduledSequence(0, [7], 0, BLOCK, SamplingInput())])
FAILING_STEP = StepInput(
    1, [ScheduledSequence(0, [PLACEHOLDER_TOKEN_ID], 0, BLOCK, SamplingInput())]
)
"""Nothing is pending."""


@asynccontextmanager
async def started(
    supervision: SupervisionConfig | None = None, config: RunnerConfig = CONFIG
) -> AsyncIterator[ProcessExecutor]:
    executor = ProcessExecutor(config, supervision or SupervisionConfig())
    try:
        await executor.start(report_nothing)
        yield executor
    finally:
        await executor.close()


def workers() -> list[int]:
    """Process ids of this process's workers."""
    if not Path(f"/proc/{os.getpid()}/task/{os.getpid()}/children").exists():
        pytest.skip("needs /proc")
    return [*filter(is_worker, children(os.getpid()))]


def signal_worker(number: signal.Signals) -> None:
    (worker,) = workers()
    os.kill(worker, number)


async def test_a_killed_worker_fails_its_step_and_is_replaced() -> None:
    async with started() as executor:
        before = await executor.submit(STEP)
        signal_worker(signal.SIGSTOP)
        output = executor.submit(STEP)
        signal_worker(signal.SIGKILL)
        with pytest.raises(WorkerLostError):
            await output
        assert executor.is_lost
        with pytest.raises(WorkerLostError):
            await executor.submit(STEP)
        assert await executor.wait_lost() == "was killed by SIGKILL (out of memory?)"
        await executor.restart(report_nothing)
        assert not executor.is_lost
        assert await executor.submit(STEP) == before
        assert len(workers()) == 1
    assert not workers()


def test_masks_for_a_lost_worker_go_nowhere() -> None:
    """On the server's own event loop: its transports do not like to be used after their end."""

    async def send_late() -> None:
        async with started() as executor:
            signal_worker(signal.SIGKILL)
            await executor.wait_lost()
            executor.send_masks(TokenMasks(1, [b""]))

    uvloop.run(send_late())


async def test_a_worker_whose_step_fails_says_why_and_is_replaced(
    capfd: pytest.CaptureFixture[str],
) -> None:
    async with started() as executor:
        with pytest.raises(WorkerLostError):
            await executor.submit(FAILING_STEP)
        assert await executor.wait_lost() == "ended with exit code 1"
        await executor.restart(report_nothing)
        await executor.submit(STEP)
    assert "KeyError" in capfd.readouterr().err


@pytest.fixture
def watchdogs(monkeypatch: pytest.MonkeyPatch) -> Watchdogs:
    return Watchdogs(monkeypatch)


async def test_a_worker_whose_step_does_not_end_is_killed(watchdogs: Watchdogs) -> None:
    async with started(SupervisionConfig(step_timeout=0.3)) as executor:
        watchdogs.let_time_out()
        await executor.submit(STEP)  # without work it was left in peace
        signal_worker(signal.SIGSTOP)
        output = executor.submit(STEP)
        watchdogs.let_time_out()
        with pytest.raises(WorkerLostError):
            await output
        reason = await executor.wait_lost()
        assert reason == "was killed: its step did not end within --step-timeout 0.3"
        await executor.restart(report_nothing)
        await executor.submit(STEP)


async def test_a_worker_that_ends_unasked_is_replaced() -> None:
    async with started() as executor:
        signal_worker(signal.SIGSEGV)
        assert await executor.wait_lost() == "was killed by SIGSEGV (a bug in compiled code?)"
        await executor.restart(report_nothing)
        await executor.submit(STEP)


async def test_one_restart_too_many() -> None:
    async with started(SupervisionConfig(max_restarts=1)) as executor:
        signal_worker(signal.SIGKILL)
        await executor.restart(report_nothing)
        signal_worker(signal.SIGKILL)
        with pytest.raises(EngineDeadError, match=r"has died: .* --max-worker-restarts 1 times"):
            await executor.restart(report_nothing)


async def test_a_worker_that_cannot_be_built_again(tmp_path: Path) -> None:
    config = (EMBEDDED_CHECKPOINT / "config.json").read_bytes()
    (tmp_path / "config.json").write_bytes(config)
    own = msgspec.structs.replace(CONFIG, checkpoint=str(tmp_path))
    async with started(config=own) as executor:
        (tmp_path / "config.json").unlink()
        signal_worker(signal.SIGKILL)
        with pytest.raises(EngineDeadError, match=r"could not be started again: .*config\.json"):
            await executor.restart(report_nothing)


async def test_a_worker_with_other_limits_is_refused(tmp_path: Path) -> None:
    config = (EMBEDDED_CHECKPOINT / "config.json").read_text()
    (tmp_path / "config.json").write_text(config)
    own = msgspec.structs.replace(CONFIG, checkpoint=str(tmp_path))
    async with started(config=own) as executor:
        (tmp_path / "config.json").write_text(config.replace("2048", "1024"))
        signal_worker(signal.SIGKILL)
        with pytest.raises(EngineDeadError, match=r"other things: .*max_context=1024"):
            await executor.restart(report_nothing)


@pytest.mark.parametrize("tokens", [None, 100, 7])
async def test_the_cache_of_a_new_worker_is_as_large(tokens: int | None) -> None:
    config = msgspec.structs.replace(CONFIG, kv_cache_tokens=tokens, block_size=16)
    async with started(config=config) as executor:
        signal_worker(signal.SIGKILL)
        await executor.restart(report_nothing)


async def test_a_first_worker_that_dies_while_loading_is_not_replaced() -> None:
    executor = ProcessExecutor(CONFIG, SupervisionConfig())
    starting = asyncio.create_task(executor.start(report_nothing))
    while not workers():
        await asyncio.sleep(0)
    signal_worker(signal.SIGKILL)
    with pytest.raises(StartupError, match=r"SIGKILL \(out of memory\?\) while it loaded"):
        await starting
    await executor.close()


SLEEPY = """
import time
from glmserve.devices.null import NullDevice

class SleepyDevice(NullDevice):
    def create_runner(self, config, progress):
        time.sleep(1000)
"""


@pytest.fixture
def sleepy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> RunnerConfig:
    """Of a device that never gets ready."""
    install_device("sleepy", "SleepyDevice", SLEEPY, tmp_path, monkeypatch)
    return msgspec.structs.replace(CONFIG, device="sleepy")


async def test_a_worker_that_loads_is_not_waited_for(
    sleepy: RunnerConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker_process, "_STOP_TIMEOUT", 1000.0)
    executor = ProcessExecutor(sleepy, SupervisionConfig())
    starting = asyncio.create_task(executor.start(report_nothing))
    while not workers():
        await asyncio.sleep(0)
    starting.cancel()
    await asyncio.gather(starting, return_exceptions=True)
    await executor.close()
    assert not workers()


async def test_a_worker_that_hangs_while_loading_is_killed(sleepy: RunnerConfig) -> None:
    executor = ProcessExecutor(sleepy, SupervisionConfig(load_timeout=0.5))
    with pytest.raises(StartupError, match=r"no progress in loading within --load-timeout 0\.5"):
        await executor.start(report_nothing)
    await executor.close()
    assert not workers()


async def test_closing_while_another_worker_starts() -> None:
    async with started() as executor:
        signal_worker(signal.SIGKILL)
        restarting = asyncio.create_task(executor.restart(report_nothing))
        while not restarting.done() and (not executor.is_lost or not workers()):
            await asyncio.sleep(0)
        restarting.cancel()
        await asyncio.gather(restarting, return_exceptions=True)
    assert not workers()


async def test_an_engine_goes_on_over_killed_stopped_and_failing_workers(
    watchdogs: Watchdogs,
) -> None:
    supervision = SupervisionConfig(step_timeout=0.3)
    params = SamplingParams(max_tokens=1500)
    outputs = []
    for disturbances in ([], [signal.SIGKILL, signal.SIGSTOP, signal.SIGBUS]):
        engine = Engine(ProcessExecutor(CONFIG, supervision), SchedulerConfig(), hash_key=b"key")
        await engine.start(report_nothing)
        streams = [engine.submit([i], params) for i in range(8)]
        draining = [asyncio.create_task(drain(stream)) for stream in streams]
        for number in disturbances:
            while streams[0].request.status.is_finished is False and not workers():
                await asyncio.sleep(0.001)
            tokens = streams[-1].request.num_output_tokens
            while streams[-1].request.num_output_tokens < tokens + 20:
                await asyncio.sleep(0.001)
            disturbed = workers()
            signal_worker(number)
            while workers() == disturbed:
                if number is signal.SIGSTOP:
                    watchdogs.let_time_out()
                await asyncio.sleep(0.001)
        outputs.append(await asyncio.gather(*draining))
        await engine.close()
    assert outputs[0] == outputs[1]
