"""Worker processes that compute one model together: they live and end as one."""

from __future__ import annotations

import asyncio
import os
import signal
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec
import pytest

from glmserve.config import (
    EMBEDDED_CHECKPOINT,
    LoadProgress,
    RunnerConfig,
    SchedulerConfig,
    SupervisionConfig,
    report_nothing,
)
from glmserve.contract.step import SamplingInput, ScheduledSequence, StepInput
from glmserve.engine import Engine
from glmserve.errors import OptionError, StartupError, WorkerLostError
from glmserve.executor import ProcessExecutor, RankState
from glmserve.executor.group_progress import GroupProgress
from glmserve.request import SamplingParams
from support.device_plugin import install_device
from support.server_process import children, is_worker
from support.slow import slow
from support.waiting import until
from support.watchdogs import Watchdogs
from support.worker_on_thread import drain

RANKS = 4
BLOCK = (0).to_bytes(4, "little")
STEP = StepInput(1, [ScheduledSequence(0, [7], 0, BLOCK, SamplingInput())])

JOINED = '''
import os
import time
from glmserve.config import LoadProgress
from glmserve.devices.null import NullDevice
from glmserve.errors import OptionError, RankLostError

def take_turn(group):
    """Waits for the stage before, and wakes the next, by files."""
    global turn
    turn += 1
    if not group.stage.is_first:
        while not os.path.exists(f"{group.rendezvous}.{group.rank}.{turn}"):
            time.sleep(0.001)
    open(f"{group.rendezvous}.{group.rank + 1}.{turn}", "w").close()

turn = 0

class JoinedDevice(NullDevice):
    name = "joined"

    def places(self):
        return 1

    def join(self, config):
        return None

    def create_runner(self, config, progress):
        rank = config.group.rank
        assert os.stat(os.path.dirname(config.group.rendezvous)).st_mode & 0o777 == 0o700
        progress(LoadProgress("weights", 10, 10))
        if config.seed == rank + 1:
            raise OptionError(f"rank {rank} does not like its seed")
        if config.seed == 100 and rank == 2:
            os.kill(os.getpid(), 9)
        runner = super().create_runner(config, progress)
        execute = runner.execute
        def execute_or_miss(step, masks):
            if config.seed == 300:
                take_turn(config.group)
            if config.seed == 200 and rank == 0:
                raise RankLostError("another rank is gone")
            if config.seed == 200 and rank == 3:
                raise KeyError("the cause")
            return execute(step, masks)
        runner.execute = execute_or_miss
        return runner
'''


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> RunnerConfig:
    install_device("joined", "JoinedDevice", JOINED, tmp_path, monkeypatch)
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return RunnerConfig(
        checkpoint=str(EMBEDDED_CHECKPOINT), device="joined", tensor_parallel_size=RANKS
    )


@asynccontextmanager
async def started(
    config: RunnerConfig, supervision: SupervisionConfig | None = None
) -> AsyncIterator[ProcessExecutor]:
    executor = ProcessExecutor(config, supervision or SupervisionConfig())
    try:
        await executor.start(report_nothing)
        yield executor
    finally:
        await executor.close()
    assert not workers()
    assert not temporary_files()


def temporary_files() -> list[Path]:
    return list(Path(tempfile.gettempdir()).iterdir())


def workers() -> list[int]:
    """Process ids by rank: in the order of their start."""
    if not Path(f"/proc/{os.getpid()}/task/{os.getpid()}/children").exists():
        pytest.skip("needs /proc")
    return list(filter(is_worker, children(os.getpid())))


@pytest.mark.parametrize("rank", [slow(0), 1, slow(RANKS - 1)])
async def test_one_that_is_killed_takes_the_others_along(config: RunnerConfig, rank: int) -> None:
    """Though others hang, as in a sum that lacks it."""
    async with started(config) as executor:
        before = await executor.submit(STEP)
        pids = workers()
        assert len(pids) == RANKS
        for pid in pids:
            os.kill(pid, signal.SIGSTOP)
        output = executor.submit(STEP)
        os.kill(pids[rank], signal.SIGKILL)
        with pytest.raises(WorkerLostError):
            await output
        reason = await executor.wait_lost()
        assert reason == f"lost its rank {rank}, which was killed by SIGKILL (out of memory?)"
        assert not workers()
        with pytest.raises(WorkerLostError):
            await executor.submit(STEP)
        await executor.restart(report_nothing)
        assert len(workers()) == RANKS
        assert await executor.submit(STEP) == before
        assert [state.losses for state in executor.rank_states()] == [
            int(other == rank) for other in range(RANKS)
        ]


@pytest.fixture
def pipeline(config: RunnerConfig) -> RunnerConfig:
    """Of as many stages, each one rank."""
    return msgspec.structs.replace(
        config, tensor_parallel_size=1, pipeline_parallel_size=RANKS, seed=300
    )


async def test_the_last_stage_answers(pipeline: RunnerConfig) -> None:
    async with started(pipeline) as executor:
        assert (await executor.submit(STEP)).token_ids
        killed = workers()[RANKS - 1]
        os.kill(killed, signal.SIGSTOP)
        output = executor.submit(STEP)
        while executor.rank_states()[0].steps < 2:
            await asyncio.sleep(0.001)
        assert not output.done()
        os.kill(killed, signal.SIGCONT)
        await output


@pytest.fixture
def watchdogs(monkeypatch: pytest.MonkeyPatch) -> Watchdogs:
    return Watchdogs(monkeypatch)


@pytest.mark.parametrize("rank", [slow(0), 2])
async def test_the_stage_that_hangs_is_named_not_those_that_wait_for_it(
    pipeline: RunnerConfig, rank: int, watchdogs: Watchdogs
) -> None:
    async with started(pipeline, SupervisionConfig(step_timeout=0.5)) as executor:
        await executor.submit(STEP)
        os.kill(workers()[rank], signal.SIGSTOP)
        output = executor.submit(STEP)
        await until(lambda: all(s.steps == 2 for s in executor.rank_states()[:rank]))
        watchdogs.let_time_out()
        reason = await executor.wait_lost()
        assert reason == (
            f"lost its rank {rank}, which was killed: its step did not end within "
            "--step-timeout 0.5"
        )
        with pytest.raises(WorkerLostError):
            await output
        await executor.restart(report_nothing)
        assert [state.losses for state in executor.rank_states()] == [
            int(other == rank) for other in range(RANKS)
        ]


@pytest.mark.parametrize("rank", [slow(0), 2])
async def test_one_that_hangs_is_noticed(
    config: RunnerConfig, rank: int, watchdogs: Watchdogs
) -> None:
    """Also if the rank that answers has answered."""
    async with started(config, SupervisionConfig(step_timeout=0.5)) as executor:
        os.kill(workers()[rank], signal.SIGSTOP)
        output = executor.submit(STEP)
        if rank:
            await output
        watchdogs.let_time_out()
        reason = await executor.wait_lost()
        assert reason == "was killed: its step did not end within --step-timeout 0.5"
        assert not workers()
        if not rank:
            with pytest.raises(WorkerLostError):
                await output
        await executor.restart(report_nothing)
        await executor.submit(STEP)


async def test_the_cause_is_named_not_those_who_miss_it(
    config: RunnerConfig, capfd: pytest.CaptureFixture[str]
) -> None:
    async with started(msgspec.structs.replace(config, seed=200)) as executor:
        with pytest.raises(WorkerLostError):
            await executor.submit(STEP)
        assert await executor.wait_lost() in (
            "lost its rank 3, which ended with exit code 1",
            # Rank 0 was seen first, and the others were killed before the cause had ended.
            "lost its rank 1, which was killed by SIGKILL (out of memory?)",
        )
    assert "another rank is gone" not in capfd.readouterr().err


async def test_states(config: RunnerConfig) -> None:
    async with started(config) as executor:
        await executor.submit(STEP)
        while executor.rank_states() != [RankState(True, 1, 0)] * RANKS:
            await asyncio.sleep(0.001)


@pytest.mark.parametrize("rank", [0, 3])
async def test_what_one_rank_cannot_load_none_can(config: RunnerConfig, rank: int) -> None:
    executor = ProcessExecutor(msgspec.structs.replace(config, seed=rank + 1), SupervisionConfig())
    with pytest.raises(OptionError, match=f"rank {rank} does not like its seed"):
        await executor.start(report_nothing)
    await executor.close()
    assert not workers()


async def test_one_that_dies_while_it_loads(config: RunnerConfig) -> None:
    executor = ProcessExecutor(msgspec.structs.replace(config, seed=100), SupervisionConfig())
    with pytest.raises(StartupError, match=r"lost its rank 2, .* while it loaded the model"):
        await executor.start(report_nothing)
    await executor.close()
    assert not workers()


async def test_a_device_that_computes_in_one_process_refuses(config: RunnerConfig) -> None:
    executor = ProcessExecutor(msgspec.structs.replace(config, device="null"), SupervisionConfig())
    with pytest.raises(OptionError, match="--tensor-parallel-size 4: the null device computes"):
        await executor.start(report_nothing)
    await executor.close()


@pytest.mark.slow
async def test_an_engine_goes_on_over_ranks_that_are_killed_and_stopped(
    config: RunnerConfig, watchdogs: Watchdogs
) -> None:
    supervision = SupervisionConfig(step_timeout=0.5)
    outputs = []
    for disturbances in ([], [(signal.SIGKILL, 3), (signal.SIGSTOP, 1), (signal.SIGKILL, 0)]):
        engine = Engine(ProcessExecutor(config, supervision), SchedulerConfig(), hash_key=b"key")
        await engine.start(report_nothing)
        streams = [engine.submit([i], SamplingParams(max_tokens=1500)) for i in range(8)]
        draining = [asyncio.create_task(drain(stream)) for stream in streams]
        for number, rank in disturbances:
            tokens = streams[-1].request.num_output_tokens
            while streams[-1].request.num_output_tokens < tokens + 20:
                await asyncio.sleep(0.001)
            while len(pids := workers()) < RANKS:
                await asyncio.sleep(0.001)
            os.kill(pids[rank], number)
            while number is signal.SIGSTOP and pids[rank] in workers():
                watchdogs.let_time_out()
                await asyncio.sleep(0.001)
        outputs.append(await asyncio.gather(*draining))
        await engine.close()
    assert outputs[0] == outputs[1]


def test_one_bar_for_all() -> None:
    seen: list[LoadProgress] = []
    progress = GroupProgress(2, seen.append)
    first, second = progress.of_rank(0), progress.of_rank(1)
    first(LoadProgress("weights", 0, 10))
    first(LoadProgress("weights", 10, 10))
    second(LoadProgress("weights", 0, 12))
    first(LoadProgress("graphs", 1, 3))
    second(LoadProgress("weights", 12, 12))
    second(LoadProgress("graphs", 0, 3))
    assert seen == [
        LoadProgress("weights", 0, 20),
        LoadProgress("weights", 10, 20),
        LoadProgress("weights", 10, 22),
        LoadProgress("weights", 10, 22),
        LoadProgress("weights", 22, 22),
        LoadProgress("graphs", 1, 6),
    ]
