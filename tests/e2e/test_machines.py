"""A server whose ranks are on two machines, or were started by a launcher."""

from __future__ import annotations

import os
import random
import signal
import socket
import sys
from typing import Any

import httpx
import pytest

from support.crashing_worker import Stream, long_requests, read_all
from support.exhaustive import exhaustive
from support.machines import MachineProcess, Readers, is_ready, reason, until
from support.ports import free_port
from support.server_process import ServerProcess, workers_of

EXACT = ("--dtype", "float32", "--deterministic")
TENSOR = ("--tensor-parallel-size", "2")
LEADS = ("--machine-rank", "0")
STAGES = ("--pipeline-parallel-size", "2")


def group(*options: str) -> tuple[str, ...]:
    """Options of both machines. Lost machines do not count as restarts."""
    address = f"127.0.0.1:{free_port()}"
    limits = ("--machine-timeout", "2", "--max-worker-restarts", "0")
    return (*options, "--num-machines", "2", "--leader", address, *limits)


def texts(streams: list[Stream]) -> list[Any]:
    return [(stream.texts, stream.ends) for stream in streams]


@pytest.mark.slow
async def test_streams_go_on_when_a_machine_is_back() -> None:
    """The first one is killed, and another takes its place."""
    bodies = long_requests(4)
    options = group(*TENSOR)
    with MachineProcess(1, *options) as first, ServerProcess(*options, *LEADS) as server:
        expected = await Readers(server, bodies).finish()
        readers = Readers(server, bodies)
        await readers.all_move()
        first.send(signal.SIGKILL)
        await until(lambda: "is not connected since" in reason(server))
        assert reason(server).startswith(f"machine 1 ({socket.gethostname()}) is not connected")
        with MachineProcess(1, *options):
            assert texts(await readers.finish()) == texts(expected)
            assert is_ready(server)
            server.wait_until_idle()
            assert server.stop() == 0
        assert f"rank 1    {socket.gethostname()}: " in server.text
        assert "Traceback" not in server.text


@pytest.mark.parametrize(
    "options",
    [
        exhaustive(TENSOR),
        exhaustive(STAGES),
        exhaustive((*TENSOR, *STAGES)),
        exhaustive((*TENSOR, "--cpu-kernels", "torch")),
    ],
)
async def test_a_machine_that_is_stopped(options: tuple[str, ...]) -> None:
    """The server takes it for lost; it goes on later. The texts are those of one process."""
    bodies = long_requests(4)
    with ServerProcess(*EXACT, *options[2:] if "--cpu-kernels" in options else ()) as alone:
        expected, _ = await read_all(alone, bodies)
    options = group(*EXACT, *options)
    with MachineProcess(1, *options) as machine, ServerProcess(*options, *LEADS) as server:
        readers = Readers(server, bodies)
        await readers.all_move()
        machine.send(signal.SIGSTOP)
        await until(lambda: not is_ready(server))
        machine.send(signal.SIGCONT)
        assert texts(await readers.finish()) == texts(expected)
        assert server.metric("glmserve_worker_restarts_total") == 1
        assert "which has not answered for 2 s" in server.text


@pytest.mark.slow
async def test_a_server_that_is_killed() -> None:
    """The other machine ends its rank, and is there for the next server."""
    options = group(*TENSOR)
    with MachineProcess(1, *options) as machine:
        with ServerProcess(*options, *LEADS) as server:
            assert workers_of(machine.pid)
            os.kill(server.pid, signal.SIGKILL)
            await until(lambda: not workers_of(machine.pid))
        with ServerProcess(*options, *LEADS) as server:
            assert is_ready(server)


def two_free_ports() -> int:
    """The first of two free ports: torchrun takes it, and the leader the next one. The system gives
    neither of them to a connection: it does not choose ports below 32768."""
    for port in random.sample(range(20000, 32000, 2), 100):
        with socket.socket() as first, socket.socket() as second:
            try:
                first.bind(("", port))
                second.bind(("", port + 1))
            except OSError:
                continue
            return port
    raise AssertionError("no free ports")


@pytest.mark.slow
def test_torchrun() -> None:
    """The real one, without an option about machines: two processes, of which one serves."""
    run = (sys.executable, "-m", "torch.distributed.run", "--nproc-per-node=2", "--no-python")
    torchrun = (*run, f"--master-port={two_free_ports()}")
    with ServerProcess(*EXACT, *TENSOR, prefix=torchrun) as server:
        assert is_ready(server)
        assert "device    2 ranks" in server.text
        assert "process 1 of 2, for rank 1 of 2" in server.text
        body = {"model": "glm-tiny", "prompt": "a", "max_tokens": 5}
        httpx.post(f"{server.url}/v1/completions", json=body).raise_for_status()


@pytest.mark.slow
def test_a_leader_worker_set(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two pods with the same command line, on one machine."""
    monkeypatch.setenv("LWS_LEADER_ADDRESS", "127.0.0.1")
    monkeypatch.setenv("LWS_GROUP_SIZE", "2")
    options = (*EXACT, *TENSOR, "--leader", f"127.0.0.1:{free_port()}")
    monkeypatch.setenv("LWS_WORKER_INDEX", "1")
    with MachineProcess(None, *options):
        monkeypatch.setenv("LWS_WORKER_INDEX", "0")
        with ServerProcess(*options) as server:
            assert is_ready(server)
            assert "device    2 ranks" in server.text
