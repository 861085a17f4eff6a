"""A server whose model is cut over two processes."""

from __future__ import annotations

import signal

import pytest

from support.crashing_worker import long_requests, read_all
from support.exhaustive import exhaustive
from support.server_process import ServerProcess

OPTIONS = ("--dtype", "float32", "--tensor-parallel-size", "2")


@pytest.mark.parametrize("kernels", ["native", exhaustive("torch")])
async def test_8_streams_and_ranks_that_are_killed_and_stopped(kernels: str) -> None:
    """The texts are those of a server whose model is in one process."""
    bodies = long_requests(8)
    own = ("--deterministic", "--cpu-kernels", kernels)
    with ServerProcess("--dtype", "float32", *own) as alone:
        expected, _ = await read_all(alone, bodies)
    limits = ("--max-worker-restarts", "100", "--step-timeout", "2", *own)
    with ServerProcess(*OPTIONS, *limits) as server:
        kill, stop = signal.SIGKILL, signal.SIGSTOP
        streams, kills = await read_all(server, bodies, 3, seed=5, signals=[kill, kill, stop])
        assert kills == 3
        for stream, other in zip(streams, expected, strict=True):
            assert (stream.texts, stream.ends) == (other.texts, other.ends)
        assert server.metric("glmserve_worker_restarts_total") == 3
        server.wait_until_idle()
        assert "Traceback" not in server.text
        losses = [server.metric(f'glmserve_rank_losses_total{{rank="{r}"}}') for r in range(2)]
        assert sum(losses) == server.text.count("lost its rank")
