"""A leader and members on this machine, in one event loop, with real worker processes."""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import signal
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest

from glmserve import __version__
from glmserve.adapters import digest
from glmserve.config import (
    EMBEDDED_CHECKPOINT,
    RunnerConfig,
    SchedulerConfig,
    SupervisionConfig,
    report_nothing,
)
from glmserve.contract.adapter import AdapterSource
from glmserve.contract.member import AnyMessage, MemberInfo
from glmserve.contract.shard import Shard
from glmserve.contract.step import SamplingInput, ScheduledSequence, StepInput
from glmserve.engine import Engine
from glmserve.errors import AdapterError, OptionError, StartupError, WorkerLostError
from glmserve.executor import ProcessExecutor
from glmserve.machines.layout import Layout
from glmserve.machines.leader import Leader
from glmserve.machines.link import Link, LinkError
from glmserve.machines.meeting import listen
from glmserve.machines.member import Member
from glmserve.request import SamplingParams
from support.adapters import write_adapter
from support.device_plugin import install_device
from support.server_process import children, is_worker
from support.slow import slow
from support.waiting import until
from support.worker_on_thread import drain

KEY = b"secret"
BLOCK = (0).to_bytes(4, "little")
STEP = StepInput(1, [ScheduledSequence(0, [7], 0, BLOCK, SamplingInput())])

MEETING = """
import os, socket
from glmserve.devices.null import NullDevice
from glmserve.engine import Engine
from glmserve.errors import OptionError

class MeetingDevice(NullDevice):
    name = "meeting"

    def places(self):
        return 1

    def join(self, config):
        return None

    def create_runner(self, config, progress):
        group = config.group
        host, port = group.meets_at
        assert (group.listener is None) == (group.rank > 0)
        if group.rank:
            socket.create_connection((host, port)).close()
        if config.seed == 5 and group.rank == 1:
            raise OptionError(f"rank {group.rank} does not like its seed")
        return super().create_runner(config, progress)
"""


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> RunnerConfig:
    install_device("meeting", "MeetingDevice", MEETING, tmp_path, monkeypatch)
    return RunnerConfig(
        checkpoint=str(EMBEDDED_CHECKPOINT),
        device="meeting",
        tensor_parallel_size=2,
        num_machines=2,
    )


LAYOUT = Layout(count=2, number=0, host="127.0.0.1", port=0, places=(Shard(),))


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    with listen(0, on_loopback=True) as listening:
        yield listening


def leader_of(listener: socket.socket, config: RunnerConfig, silence: float = 5.0) -> Leader:
    return Leader(LAYOUT, listener, config, "model", KEY, silence, on_loopback=True)


def info_of(config: RunnerConfig, **changes: object) -> MemberInfo:
    info = MemberInfo(
        version=__version__,
        number=1,
        count=2,
        instance="first",
        host="host-b",
        places=(Shard(),),
        config=config,
        checkpoint="model",
    )
    return msgspec.structs.replace(info, **changes)


def member_of(listener: socket.socket, info: MemberInfo, key: bytes = KEY) -> Member:
    layout = replace(LAYOUT, number=info.number, port=listener.getsockname()[1])
    return Member(layout, info, key, on_loopback=True)


@asynccontextmanager
async def running(member: Member) -> AsyncIterator[asyncio.Task[None]]:
    task = asyncio.create_task(member.run())
    try:
        yield task
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def workers() -> list[int]:
    return list(filter(is_worker, children(os.getpid())))


@asynccontextmanager
async def group(
    listener: socket.socket, config: RunnerConfig, silence: float = 5.0
) -> AsyncIterator[ProcessExecutor]:
    """A started executor, whose workers are gone afterwards."""
    leader = leader_of(listener, config, silence)
    executor = ProcessExecutor(config, SupervisionConfig(), leader)
    try:
        await executor.start(report_nothing)
        yield executor
    finally:
        await executor.close()
    assert not workers()


@pytest.mark.parametrize("rank", [slow(0), 1])
async def test_a_worker_that_dies_on_either_machine(
    listener: socket.socket, config: RunnerConfig, rank: int
) -> None:
    member = member_of(listener, info_of(config))
    async with running(member), group(listener, config) as executor:
        before = await executor.submit(STEP)
        pids = workers()
        for pid in pids:
            os.kill(pid, signal.SIGSTOP)
        output = executor.submit(STEP)
        os.kill(pids[rank], signal.SIGKILL)
        with pytest.raises(WorkerLostError):
            await output
        how = f"lost its rank {rank}, which was killed by SIGKILL (out of memory?)"
        assert await executor.wait_lost() == how
        assert not workers()
        await executor.restart(report_nothing)
        assert await executor.submit(STEP) == before
        assert [state.losses for state in executor.rank_states()] == [1 - rank, rank]


@pytest.mark.slow
async def test_adapters_are_loaded_on_all_machines(
    listener: socket.socket, config: RunnerConfig, tmp_path: Path
) -> None:
    config = msgspec.structs.replace(config, max_adapters=1)
    folder = write_adapter(tmp_path / "adapter", "1")
    source = AdapterSource(7, str(folder), digest(folder))
    (sequence,) = STEP.sequences
    adapted = StepInput(1, [msgspec.structs.replace(sequence, adapter_id=7)])
    async with running(member_of(listener, info_of(config))), group(listener, config) as executor:
        await executor.load_adapter(source)
        first = await executor.submit(adapted)
        assert first.token_ids != (await executor.submit(STEP)).token_ids
        with pytest.raises(AdapterError, match="changed"):
            await executor.load_adapter(AdapterSource(8, str(folder), "another"))
        assert await executor.submit(adapted) == first
        os.kill(workers()[1], signal.SIGKILL)
        await executor.wait_lost()
        await executor.restart(report_nothing)
        await executor.load_adapter(source)
        assert await executor.submit(adapted) == first
        executor.remove_adapter(7)
        await executor.submit(STEP)


async def test_a_machine_that_leaves_and_comes_back(
    listener: socket.socket, config: RunnerConfig
) -> None:
    supervision = SupervisionConfig(max_restarts=0)
    executor = ProcessExecutor(config, supervision, leader_of(listener, config))
    starting = asyncio.create_task(executor.start(report_nothing))
    await asyncio.sleep(0)
    assert executor.missing_machine == "machine 1 has not connected yet"
    info = None
    for _ in range(2):
        async with running(member_of(listener, info_of(config))):
            info = await starting or info
            assert info is not None
            assert [rank.host for rank in info.ranks][1] == "host-b"
            assert executor.missing_machine == ""
            before = await executor.submit(STEP)
        how = "lost its machine 1 (host-b), which closed the connection"
        assert await executor.wait_lost() == how
        assert not workers()
        starting = asyncio.create_task(executor.restart(report_nothing))
        await until(lambda: executor.missing_machine)
        assert re.fullmatch(
            r"machine 1 \(host-b\) is not connected since 2\d{3}-\d\d-\d\d [\d:]{8} [+-]\d{4}",
            executor.missing_machine,
        )
    async with running(member_of(listener, info_of(config))):
        await starting
        assert await executor.submit(STEP) == before
        await executor.close()
    assert not workers()


async def test_a_machine_that_falls_silent(
    listener: socket.socket, config: RunnerConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing closes the connection, as when a cable is cut; the member dials again."""
    async with (
        running(member_of(listener, info_of(config))),
        group(listener, config, silence=2) as executor,
    ):
        before = await executor.submit(STEP)
        receive = Link.receive

        async def receive_nothing(link: Link) -> AnyMessage:
            while not link._writer.is_closing():
                await receive(link)
                link.num_received -= 1
            raise LinkError("closed")

        with monkeypatch.context() as silent:
            silent.setattr(Link, "receive", receive_nothing)
            how = await executor.wait_lost()
        # Both ends wait for two seconds; the one that gives up first closes the connection.
        assert how in (
            "lost its machine 1 (host-b), which has not answered for 2 s",
            "lost its machine 1 (host-b), which closed the connection",
        )
        await executor.restart(report_nothing)
        assert await executor.submit(STEP) == before


async def test_a_leader_that_is_replaced(listener: socket.socket, config: RunnerConfig) -> None:
    member = member_of(listener, info_of(config))
    again = listener.dup()
    async with running(member) as task:
        async with group(listener, config) as executor:
            before = await executor.submit(STEP)
        async with group(again, config) as executor:
            assert await executor.submit(STEP) == before
        assert not task.done()


async def test_a_member_that_ends_with_its_leader(
    listener: socket.socket, config: RunnerConfig
) -> None:
    layout = replace(LAYOUT, number=1, port=listener.getsockname()[1], stays=False)
    member = Member(layout, info_of(config), KEY, on_loopback=True)
    task = asyncio.create_task(member.run())
    async with group(listener, config):
        pass
    await task


async def test_what_one_rank_cannot_load_none_can(
    listener: socket.socket, config: RunnerConfig
) -> None:
    config = msgspec.structs.replace(config, seed=5)
    with pytest.raises(OptionError, match="rank 1 does not like its seed"):
        async with running(member_of(listener, info_of(config))), group(listener, config):
            pass


async def test_each_machine_has_its_own_paths_and_threads(
    listener: socket.socket, config: RunnerConfig, tmp_path: Path
) -> None:
    """The null device reads the checkpoint's config."""
    copy = tmp_path / "copy"
    shutil.copytree(config.checkpoint, copy)
    ours = msgspec.structs.replace(config, checkpoint=str(tmp_path / "missing"))
    theirs = msgspec.structs.replace(config, checkpoint=str(copy))
    with pytest.raises(StartupError, match="missing"):
        async with running(member_of(listener, info_of(theirs))), group(listener, ours):
            pass


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"version": "0"}, f"it is glmserve 0, and the leader is glmserve {__version__}"),
        ({"places": "?"}, "the leader does not understand it: Expected `array`"),
        ({"number": 2}, "it is machine 2 of 2, and the leader's group has 2"),
        ({"count": 3}, "it is machine 1 of 3, and the leader's group has 2"),
        ({"checkpoint": "other"}, r"machine 1 \(host-b\) has another model: the files of "),
        ({"dtype": "float16"}, "has other options: --dtype is float16 there and auto here"),
        ({"max_model_len": 9}, "--max-model-len is 9 there and not given here"),
    ],
)
async def test_members_that_are_refused(
    listener: socket.socket, config: RunnerConfig, changes: dict[str, object], reason: str
) -> None:
    if changes.keys() <= set(RunnerConfig.__struct_fields__) - {"checkpoint"}:
        info = info_of(msgspec.structs.replace(config, **changes))
    else:
        info = info_of(config, **changes)
    leader = leader_of(listener, config)
    await leader.start()
    with pytest.raises(StartupError, match=f"refuses this machine: .*{reason}"):
        await member_of(listener, info).run()
    await leader.close()


async def test_a_number_that_is_taken(
    listener: socket.socket, config: RunnerConfig, caplog: pytest.LogCaptureFixture
) -> None:
    """It may become free."""
    leader = leader_of(listener, config)
    await leader.start()
    async with running(member_of(listener, info_of(config))):
        await leader.gather()
        async with running(member_of(listener, info_of(config, instance="second"))):
            await until(lambda: "machine 1 (host-b) is already connected; try" in caplog.text)
    await leader.close()


async def test_a_member_that_dials_again_takes_its_own_place(
    listener: socket.socket, config: RunnerConfig
) -> None:
    """Its first connection may be dead without a sign."""
    leader = leader_of(listener, config)
    await leader.start()
    async with running(member_of(listener, info_of(config))):
        (_, first) = await leader.gather()
        async with running(member_of(listener, info_of(config))):
            await until(lambda: leader._members.get(1) not in (None, first))
    await leader.close()


async def test_a_lost_machine_is_no_fault_of_a_request(
    listener: socket.socket, config: RunnerConfig
) -> None:
    """No request is taken for the reason."""
    executor = ProcessExecutor(config, SupervisionConfig(), leader_of(listener, config))
    engine = Engine(executor, SchedulerConfig(), hash_key=b"key")
    async with running(member_of(listener, info_of(config))):
        await engine.start(report_nothing)
        expected = await drain(engine.submit([5], SamplingParams(max_tokens=50)))
        for pid in workers():
            os.kill(pid, signal.SIGSTOP)  # so that the step does not end
        stream = engine.submit([5], SamplingParams(max_tokens=50))
        draining = asyncio.create_task(drain(stream))
        await until(lambda: stream.request.status.has_begun)
    async with running(member_of(listener, info_of(config))):
        assert await draining == expected
        assert stream.request.num_crashes == 0
        await engine.close()


async def test_strangers_at_the_port_are_sent_away(
    listener: socket.socket, config: RunnerConfig
) -> None:
    async with running(member_of(listener, info_of(config))), group(listener, config) as executor:
        for said in (b"GET / HTTP/1.1\r\n\r\n", b"\xff" * 4, bytes(100), b""):
            reader, writer = await asyncio.open_connection(*listener.getsockname())
            writer.write(said)
            writer.write_eof()
            assert await reader.read() == b""
            writer.close()
        await executor.submit(STEP)


async def test_too_many_silent_strangers(
    listener: socket.socket, config: RunnerConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each is let go after a while, so a member gets its turn."""
    monkeypatch.setattr("glmserve.machines.leader._HANDSHAKE_TIMEOUT", 1.0)
    monkeypatch.setattr("glmserve.machines.leader._MAX_STRANGERS", 3)
    leader = leader_of(listener, config)
    await leader.start()
    strangers = [await asyncio.open_connection(*listener.getsockname()) for _ in range(5)]
    assert await strangers[4][0].read() == b""  # at once
    async with running(member_of(listener, info_of(config))):
        await leader.gather()
        assert await strangers[0][0].read() == b""
        await leader.close()
    for _, writer in strangers:
        writer.close()
