"""Hours of bad luck in minutes: `pytest -m soak`."""

from __future__ import annotations

import signal

import pytest

from support.crashing_worker import long_requests, read_all
from support.server_process import ServerProcess

KILLS = 100
STOPS = 20


@pytest.mark.soak
@pytest.mark.timeout(3600)
async def test_64_streams_and_a_worker_that_is_killed_a_hundred_times() -> None:
    bodies = long_requests(64)
    with ServerProcess("--dtype", "float32", "--max-worker-restarts", str(KILLS)) as server:
        expected, _ = await read_all(server, bodies)
        kills, rounds = 0, 0
        while kills < KILLS:
            streams, more = await read_all(server, bodies, KILLS - kills, seed=rounds)
            for stream, alone in zip(streams, expected, strict=True):
                assert (stream.texts, stream.ends) == (alone.texts, alone.ends)
            kills, rounds = kills + more, rounds + 1
            print(f"{kills} kills, {rounds * len(bodies)} streams")
        assert server.metric("glmserve_worker_restarts_total") == KILLS
        server.wait_until_idle()


@pytest.mark.soak
@pytest.mark.timeout(3600)
@pytest.mark.parametrize(("size", "stages"), [(2, 1), (4, 1), (1, 2), (2, 2)])
async def test_64_streams_and_ranks_that_are_killed_and_stopped(size: int, stages: int) -> None:
    """A hundred kills and twenty stops, of random ranks."""
    bodies = long_requests(64)
    signals = [signal.SIGKILL] * (KILLS // STOPS) + [signal.SIGSTOP]
    most = KILLS + STOPS
    ranks = ("--tensor-parallel-size", str(size), "--pipeline-parallel-size", str(stages))
    options = (*ranks, "--step-timeout", "5")
    limit = ("--max-worker-restarts", str(most))
    with ServerProcess("--dtype", "float32", *options, *limit) as server:
        expected, _ = await read_all(server, bodies)
        kills, rounds = 0, 0
        while kills < most:
            streams, more = await read_all(
                server, bodies, most - kills, seed=rounds, signals=signals
            )
            for stream, alone in zip(streams, expected, strict=True):
                assert (stream.texts, stream.ends) == (alone.texts, alone.ends)
            kills, rounds = kills + more, rounds + 1
            print(f"{kills} kills, {rounds * len(bodies)} streams")
        assert server.metric("glmserve_worker_restarts_total") == most
        server.wait_until_idle()
