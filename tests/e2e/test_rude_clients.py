"""Whoever leaves in the middle of something takes everything along that was kept for them."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import httpx
import pytest

from process_memory import open_files, wait_for_open_files
from rude_clients import leave_often
from server_process import ServerProcess


@pytest.fixture
def server() -> Iterator[ServerProcess]:
    with ServerProcess("--dtype", "float32") as server:
        yield server


def test_nothing_is_left_of_clients_that_leave(server: ServerProcess) -> None:
    asyncio.run(leave_often(server.address, 10, at_once=5, seed=1))
    check_clean(server, open_files(server.pid))
    before = open_files(server.pid)
    asyncio.run(leave_often(server.address, 100, at_once=20))
    check_clean(server, before)
    answer = httpx.post(
        f"{server.url}/v1/completions", json={"model": "glm-tiny", "prompt": "x", "max_tokens": 3}
    )
    assert answer.status_code == 200


def check_clean(server: ServerProcess, files: int) -> None:
    """No block, no request and no descriptor more than before."""
    server.wait_until_idle(30)
    assert server.metric("glmserve_requests_waiting") == 0
    wait_for_open_files(server.pid, files)
