"""Whoever leaves in the middle of something takes everything along that was kept for them."""

from __future__ import annotations

import asyncio
import resource
import socket
from collections.abc import Iterator
from contextlib import ExitStack

import httpx
import pytest

from support.misbehaving_clients import leave_often
from support.open_resources import open_files, wait_for_open_files
from support.server_process import ServerProcess


@pytest.fixture
def server() -> Iterator[ServerProcess]:
    with ServerProcess("--dtype", "float32") as server:
        yield server


@pytest.mark.slow
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


@pytest.mark.slow
def test_a_server_without_descriptors_serves_again() -> None:
    """Connections that it cannot take are closed; the listening socket is not."""
    with ServerProcess("--device", "null") as server, ExitStack() as stack:
        most = open_files(server.pid) + 20
        resource.prlimit(server.pid, resource.RLIMIT_NOFILE, (most, most))
        crowd = [stack.enter_context(socket.create_connection(server.address)) for _ in range(60)]
        assert ask(crowd[0]).startswith(b"HTTP/1.1 200 ")
        assert sum(is_closed(client) for client in crowd) > 30
        for client in crowd:
            client.close()
        check_clean(server, most - 10)
        for _ in range(3):
            assert httpx.get(f"{server.url}/v1/models").status_code == 200
        assert "ERROR" not in server.text


def ask(client: socket.socket) -> bytes:
    client.settimeout(20)
    client.sendall(b"GET /v1/models HTTP/1.1\r\nHost: x\r\n\r\n")
    return client.recv(4096)


def is_closed(client: socket.socket) -> bool:
    """Whether the server has closed it; one that it has not taken at all waits."""
    client.settimeout(0.2)
    try:
        return client.recv(1) == b""
    except TimeoutError:
        return False
    except ConnectionError:
        return True
