"""Clients that stop reading: they cost little, wait alone, and are cut off in the end."""

from __future__ import annotations

import socket
from contextlib import ExitStack

import httpx
import pytest

from support.misbehaving_clients import BODY, request
from support.open_resources import open_files, resident_bytes, wait_for_open_files
from support.server_process import ServerProcess

READERS, CHOICES, TOKENS = 16, 8, 2000
MEGABYTES = 2**20


def slow_reader(server: ServerProcess) -> socket.socket:
    """A client with a small window that asks for much, reads the beginning, and stops."""
    client = socket.socket()
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    client.connect(server.address)
    client.sendall(request(BODY | {"n": CHOICES, "max_tokens": TOKENS}))
    assert client.recv(100).startswith(b"HTTP/1.1 200 ")
    return client


def others_request(server: ServerProcess) -> None:
    body = BODY | {"max_tokens": 50, "stream": False}
    answer = httpx.post(f"{server.url}/v1/completions", json=body, timeout=60)
    assert answer.json()["usage"]["completion_tokens"] == 50


@pytest.mark.slow
def test_who_does_not_read_costs_little_and_is_cut_off() -> None:
    with ServerProcess("--device", "null", "--write-timeout", "3") as server, ExitStack() as stack:
        for _ in range(3):
            others_request(server)
        memory, files = resident_bytes(server.pid), open_files(server.pid)
        readers = [stack.enter_context(slow_reader(server)) for _ in range(READERS)]
        while server.metric("glmserve_requests_running"):  # they are generated all the same
            others_request(server)
        # All of it as events would be some 65 MB; a slow reader has its tokens and a full buffer.
        assert resident_bytes(server.pid) - memory < 25 * MEGABYTES
        assert server.metric("glmserve_kv_blocks_used") == 0
        wait_for_open_files(server.pid, files)
        for reader in readers:
            reader.settimeout(10)
            assert read_to_end(reader) < 10**6
        others_request(server)


def read_to_end(client: socket.socket) -> int:
    """Bytes that were on their way when the connection was cut."""
    num_bytes = 0
    try:
        while data := client.recv(2**16):
            num_bytes += len(data)
    except ConnectionError:
        pass
    return num_bytes
