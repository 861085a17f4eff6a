"""A real Ray cluster of two nodes on this machine: one rank on each."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from support.crashing_worker import long_requests
from support.machines import Readers, is_ready, reason, until
from support.server_process import ServerProcess, children

pytestmark = [pytest.mark.ray, pytest.mark.filterwarnings("ignore")]  # warnings of Ray

OPTIONS = (
    *("--tensor-parallel-size", "2", "--executor", "ray", "--machine-timeout", "3"),
    *("--max-worker-restarts", "0"),
)


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    pytest.importorskip("ray", reason="needs Ray; pip install 'glmserve[ray]'")
    from ray.cluster_utils import Cluster

    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    started = Cluster(
        initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False}
    )
    started.add_node(num_cpus=1)
    monkeypatch.setenv("RAY_ADDRESS", started.address)
    yield started
    started.shutdown()


def actors(cluster: Any) -> list[int]:
    """Process ids of the members."""
    raylets = [
        info.process.pid
        for node in cluster.list_all_nodes()
        for info in node.all_processes["raylet"]
    ]
    return [pid for raylet in raylets for pid in children(raylet) if is_actor(pid)]


def is_actor(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().startswith(b"ray::MemberActor")
    except (FileNotFoundError, ProcessLookupError):
        return False


@pytest.mark.timeout(300)
async def test_streams_go_on_when_actors_and_nodes_are_lost(cluster: Any) -> None:
    bodies = long_requests(4)
    with ServerProcess(*OPTIONS) as server:
        assert len(actors(cluster)) == 2
        expected = [(s.texts, s.ends) for s in await Readers(server, bodies).finish()]

        readers = Readers(server, bodies)
        await readers.all_move()
        os.kill(actors(cluster)[0], signal.SIGKILL)
        assert [(s.texts, s.ends) for s in await readers.finish()] == expected
        await until(lambda: is_ready(server))
        assert server.metric("glmserve_worker_restarts_total") == 1

        readers = Readers(server, bodies)
        await readers.all_move()
        cluster.remove_node(cluster.list_all_nodes()[1])
        await until(lambda: "is not connected since" in reason(server))
        assert reason(server).startswith("actor ")
        cluster.add_node(num_cpus=1)
        assert [(s.texts, s.ends) for s in await readers.finish()] == expected
        assert server.stop() == 0
        await until(lambda: not actors(cluster))
    assert "Traceback" not in server.text


@pytest.mark.timeout(300)
def test_ray_has_no_room_yet(cluster: Any) -> None:
    """The server waits."""
    with ServerProcess(*OPTIONS, "--threads", "2", wait=False) as server:
        while "Ray has no room for 2 times 2 CPU yet" not in server.text:
            assert not server.has_ended, server.text
            time.sleep(0.1)
        for _ in range(2):
            cluster.add_node(num_cpus=2)
        server.wait_until_announced()
        assert is_ready(server)


async def test_actors_end_with_a_server_that_is_killed(cluster: Any) -> None:
    with ServerProcess(*OPTIONS) as server:
        os.kill(server.pid, signal.SIGKILL)
        await until(lambda: not actors(cluster))


def test_there_is_no_cluster(monkeypatch: pytest.MonkeyPatch) -> None:
    """None is started: it would outlive a server that is killed."""
    pytest.importorskip("ray", reason="needs Ray; pip install 'glmserve[ray]'")
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    with ServerProcess(*OPTIONS, wait=False) as server:
        server.wait_until_announced()
        assert server.wait() == 1
        assert "glmserve: error: no Ray cluster is found: " in server.text
