"""A server with --cpus: where its processes run."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from support.server_process import ServerProcess

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="affinity is Linux's")


def allowed(pid: int) -> list[set[int]]:
    """CPUs of each thread of a process."""
    return [os.sched_getaffinity(int(t.name)) for t in Path(f"/proc/{pid}/task").iterdir()]


def worker_of(server: int) -> int:
    """The process below the server that is its worker."""
    for pid in Path(f"/proc/{server}/task/{server}/children").read_text().split():
        if b"glmserve.worker.main" in Path(f"/proc/{pid}/cmdline").read_bytes():
            return int(pid)
    raise AssertionError("there is no worker")


@pytest.mark.slow
def test_worker_and_server_keep_apart() -> None:
    cpus = os.sched_getaffinity(0)
    if len(cpus) < 2:
        pytest.skip("one CPU")
    last = max(cpus)
    with ServerProcess("--cpus", str(last), "--device", "cpu") as server:
        assert all(found == {last} for found in allowed(worker_of(server.pid)))
        assert all(found == cpus - {last} for found in allowed(server.pid))
        assert "1 thread," in server.text


def test_other_devices_refuse() -> None:
    cpu = min(os.sched_getaffinity(0))
    server = ServerProcess("--cpus", str(cpu), "--device", "null", wait=False)
    assert server.wait() == 2
    assert server.text.endswith("--cpus and --numa-node are for the cpu device, not null\n")
