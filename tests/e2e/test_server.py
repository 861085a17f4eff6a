"""The server process from outside: start, load, many users, disconnects, stop."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import struct
import subprocess
import sys
import time
from pathlib import Path

import httpx
import pytest

from support.mixed_requests import requests_of_mixed_lengths, streamed_text
from support.server_process import ServerProcess, children, worker_of


async def test_64_streams_each_read_what_they_would_read_alone(glm_tiny: ServerProcess) -> None:
    bodies = requests_of_mixed_lengths(64)
    limits = httpx.Limits(max_connections=None)
    async with httpx.AsyncClient(base_url=glm_tiny.url, limits=limits, timeout=120) as client:
        together = await asyncio.gather(*(streamed_text(client, body) for body in bodies))
        alone = [await streamed_text(client, body) for body in bodies]
    assert together == alone
    glm_tiny.wait_until_idle()


@pytest.mark.slow
async def test_a_small_cache_changes_no_text() -> None:
    growing = {"ignore_eos": True, "max_tokens": 150}  # by more blocks than their prompts have
    bodies = [body | growing for body in requests_of_mixed_lengths(12)]
    size = ("--kv-cache-tokens", "512", "--max-model-len", "512")
    with ServerProcess("--dtype", "float32", *size) as server:
        async with httpx.AsyncClient(base_url=server.url, timeout=120) as client:
            together = await asyncio.gather(*(streamed_text(client, body) for body in bodies))
            assert server.metric("glmserve_preemptions_total") > 0
            alone = [await streamed_text(client, body) for body in bodies]
        assert together == alone
        server.wait_until_idle()


async def test_disconnects_free_their_blocks(glm_tiny: ServerProcess) -> None:
    body = requests_of_mixed_lengths(1)[0] | {"max_tokens": 500, "ignore_eos": True}
    async with httpx.AsyncClient(base_url=glm_tiny.url, timeout=60) as client:
        async with client.stream("POST", "/v1/chat/completions", json=body) as response:
            async for _ in response.aiter_lines():
                break
        glm_tiny.wait_until_idle()
        waiting = asyncio.create_task(
            client.post("/v1/chat/completions", json=body | {"stream": False})
        )
        while not glm_tiny.metric("glmserve_requests_running"):
            await asyncio.sleep(0.01)
        waiting.cancel()
        glm_tiny.wait_until_idle()
        assert (await client.get("/health/ready")).status_code == 200


async def test_abrupt_disconnects_leave_nothing_behind() -> None:
    """Half-sent requests, resets and closed streams, at every stage."""
    with ServerProcess("--device", "null") as server:
        await asyncio.gather(*(leave_abruptly(server, i) for i in range(100)))
        server.wait_until_idle()
        assert server.metric("glmserve_requests_waiting") == 0
        assert "Traceback" not in server.text


async def leave_abruptly(server: ServerProcess, number: int) -> None:
    host, port = server.url.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    stream = b"true" if number % 2 else b"false"
    body = b'{"model":"glm-tiny","prompt":"x","max_tokens":2000,"ignore_eos":true,"stream":%s}'
    body %= stream
    writer.write(
        b"POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(body)
    )
    writer.write(body[: len(body) // (2 if number % 5 == 0 else 1)])
    await writer.drain()
    if number % 3:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(reader.read(1 + 37 * number), 0.3)
    if number % 4 == 0:  # RST instead of FIN
        linger = struct.pack("ii", 1, 0)
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
    writer.close()


def test_start_up_says_what_matters(glm_tiny: ServerProcess) -> None:
    text = glm_tiny.text
    for part in (
        "glm-tiny",
        "million parameters",
        "cpu",
        "float32",
        "KV cache",
        "tokens",
        glm_tiny.url,
        "curl -N",
    ):
        assert part in text


def test_the_server_process_has_no_torch(glm_tiny: ServerProcess) -> None:
    maps = Path(f"/proc/{glm_tiny.pid}/maps")
    if not maps.exists():
        pytest.skip("needs /proc")
    assert "libtorch" not in maps.read_text()
    code = (
        "import sys, glmserve.cli.server; "
        "print([m for m in ('torch', 'numpy', 'triton', 'tiktoken') if m in sys.modules])"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.stdout.strip() == "[]"


def test_live_answers_long_before_ready() -> None:
    with ServerProcess("--host", "127.0.0.1", wait=False) as server:
        deadline = time.monotonic() + 60
        while not (port := listening_port(server.pid)):
            assert time.monotonic() < deadline
            time.sleep(0.01)
        url = f"http://127.0.0.1:{port}"
        assert httpx.get(f"{url}/health/live").status_code == 200
        ready = httpx.get(f"{url}/health/ready")
        assert (ready.status_code, ready.json()["status"]) == (503, "loading")


def listening_port(pid: int) -> int | None:
    """The TCP port a process listens on, from /proc."""
    try:
        links = [str(path.readlink()) for path in Path(f"/proc/{pid}/fd").iterdir()]
    except OSError:
        return None
    inodes = {link[8:-1] for link in links if link.startswith("socket:[")}
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        fields = line.split()
        if fields[3] == "0A" and fields[9] in inodes:
            return int(fields[1].split(":")[1], 16)
    return None


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signals_end_it_cleanly_and_its_children_with_it(number: signal.Signals) -> None:
    """Also where they reach the whole process group, worker first."""
    with ServerProcess("--device", "null") as server:
        helpers = children(server.pid)
        for pid in (*helpers, server.pid):
            os.kill(pid, number)
        assert server.wait() == 0
        assert not any(Path(f"/proc/{pid}").exists() for pid in helpers)
        assert "Traceback" not in server.text


def test_a_stream_under_way_is_finished_after_sigterm() -> None:
    body = {"model": "glm-tiny", "prompt": "x", "stream": True, "ignore_eos": True}
    with ServerProcess("--dtype", "float32") as server:
        url = f"{server.url}/v1/completions"
        with httpx.stream("POST", url, json=body | {"max_tokens": 300}, timeout=30) as response:
            lines = response.iter_lines()
            next(lines)
            os.kill(server.pid, signal.SIGTERM)
            assert [line for line in lines if line][-1] == "data: [DONE]"
        assert server.wait() == 0
        assert "ERROR" not in server.text


@pytest.mark.slow
def test_a_stream_that_takes_too_long_after_sigterm_is_told_so() -> None:
    body = {"model": "glm-tiny", "prompt": "x", "stream": True, "ignore_eos": True}
    with ServerProcess("--device", "null", "--drain-timeout", "0.5") as server:
        os.kill(worker_of(server.pid), signal.SIGSTOP)
        url = f"{server.url}/v1/completions"
        with httpx.stream("POST", url, json=body | {"max_tokens": 100}, timeout=30) as response:
            os.kill(server.pid, signal.SIGTERM)
            assert "shutting down" in [line for line in response.iter_lines() if line][-1]
        assert server.wait() == 0
        assert "Traceback" not in server.text


@pytest.mark.parametrize("delay", [0.4, 1.2])
def test_a_signal_while_loading_is_no_error(delay: float) -> None:
    with ServerProcess("--device", "cpu", wait=False) as server:
        time.sleep(delay)
        os.kill(server.pid, signal.SIGTERM)
        server.wait()
        assert "Traceback" not in server.text


def test_all_children_die_with_a_killed_server() -> None:
    with ServerProcess("--device", "null") as server:
        helpers = children(server.pid)
        os.kill(server.pid, signal.SIGKILL)
        server.wait()
        deadline = time.monotonic() + 10
        while any(Path(f"/proc/{pid}").exists() for pid in helpers):
            assert time.monotonic() < deadline, "a child outlived its server"
            time.sleep(0.05)


def test_a_dead_worker_that_may_not_be_replaced_ends_the_server_with_an_error() -> None:
    with ServerProcess("--device", "null", "--max-worker-restarts", "0") as server:
        os.kill(worker_of(server.pid), signal.SIGKILL)
        assert server.wait() == 1
        assert "the worker process that runs the model has died" in server.text
        assert "Traceback" not in server.text


def test_a_taken_port_is_one_clear_line(glm_tiny: ServerProcess) -> None:
    port = glm_tiny.url.rsplit(":", 1)[1]
    result = subprocess.run(
        [sys.executable, "-m", "glmserve", "serve", "--port", port], capture_output=True, text=True
    )
    assert result.returncode == 2
    assert "address already in use" in result.stderr
    assert result.stderr.count("\n") == 1
