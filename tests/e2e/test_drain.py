"""A server that was told to stop ends well."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx
import pytest

from support.server_process import ServerProcess, worker_of
from support.slow import slow

Answer = asyncio.Task[httpx.Response]
HANDSHAKE = (
    b"GET /v1/responses HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)
BODY = {"model": "glm-tiny", "prompt": "x", "max_tokens": 100, "ignore_eos": True}


@asynccontextmanager
async def one_running_one_waiting(server: ServerProcess) -> AsyncIterator[tuple[Answer, Answer]]:
    """And a worker that does nothing until it is continued."""
    os.kill(worker_of(server.pid), signal.SIGSTOP)
    async with httpx.AsyncClient(base_url=server.url, timeout=60) as client:

        async def metric(name: str) -> bool:
            text = (await client.get("/metrics")).text
            return f'glmserve_requests_{name}{{model_name="glm-tiny"}} 1.0' in text

        tasks = []
        for name in ("running", "waiting"):
            body = BODY | {"stream": name == "running"}
            tasks.append(asyncio.create_task(client.post("/v1/completions", json=body)))
            while not await metric(name):
                await asyncio.sleep(0.01)
        yield tasks[0], tasks[1]


@pytest.mark.parametrize("number", [signal.SIGTERM, slow(signal.SIGHUP)])
async def test_what_runs_is_finished_and_what_waits_is_sent_away(number: signal.Signals) -> None:
    with ServerProcess("--device", "null", "--max-batch-size", "1") as server:
        async with one_running_one_waiting(server) as (running, waiting):
            os.kill(server.pid, number)
            refused = await waiting
            assert (refused.status_code, refused.headers["retry-after"]) == (503, "1")
            assert refused.headers["connection"] == "close"
            assert refused.json()["error"]["code"] == "not_ready"
            with pytest.raises(httpx.ConnectError):
                async with httpx.AsyncClient(base_url=server.url) as newcomer:
                    await newcomer.get("/health/live")
            os.kill(worker_of(server.pid), signal.SIGCONT)
            assert (await running).text.endswith("data: [DONE]\n\n")
        assert server.wait() == 0
        assert "Traceback" not in server.text


@pytest.mark.parametrize("number", [signal.SIGTERM, slow(signal.SIGINT)])
async def test_a_second_signal_ends_what_runs(number: signal.Signals) -> None:
    with ServerProcess("--device", "null", "--max-batch-size", "1") as server:
        async with one_running_one_waiting(server) as (running, waiting):
            os.kill(server.pid, signal.SIGTERM)
            assert (await waiting).status_code == 503
            os.kill(server.pid, number)
            assert "shutting down" in (await running).text
        assert server.wait() == 0
        assert "Traceback" not in server.text


def test_a_connection_that_was_just_made_is_answered() -> None:
    """Its client could not know that the server ends. A WebSocket is not begun, and a client that
    sends nothing holds up nothing."""
    with ServerProcess("--device", "null") as server:
        with (
            socket.create_connection(server.address) as client,
            socket.create_connection(server.address) as talker,
            socket.create_connection(server.address) as silent,
        ):
            httpx.get(f"{server.url}/health/live")  # all are accepted: they came before
            os.kill(server.pid, signal.SIGTERM)
            with pytest.raises(httpx.ConnectError):
                while httpx.get(f"{server.url}/health/live"):
                    pass
            client.settimeout(30)
            client.sendall(b"GET /health/live HTTP/1.1\r\nHost: x\r\n\r\n")
            answer = b"".join(iter(lambda: client.recv(4096), b""))
            assert answer.startswith(b"HTTP/1.1 200")
            assert b"connection: close" in answer.lower()
            talker.settimeout(30)
            talker.sendall(HANDSHAKE)
            assert talker.recv(4096).startswith(b"HTTP/1.1 503")
            silent.settimeout(30)
            assert silent.recv(100) == b""
        assert server.wait() == 0


async def test_draining_without_stopping() -> None:
    key = {"Authorization": "Bearer secret"}
    with ServerProcess("--device", "null", "--admin-key", "secret") as server:
        async with httpx.AsyncClient(base_url=server.url, timeout=60) as client:
            assert (await client.post("/admin/drain", headers=key)).status_code == 200
            assert (await client.post("/v1/completions", json=BODY)).status_code == 503
            assert (await client.delete("/admin/drain", headers=key)).status_code == 200
            assert (await client.post("/v1/completions", json=BODY)).status_code == 200
