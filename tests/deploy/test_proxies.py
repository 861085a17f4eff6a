"""deploy/haproxy and deploy/nginx: real proxies stream, drain, reload, and lose a server."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import subprocess
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import httpx
import pytest

from support.ports import free_ports
from support.server_process import ServerProcess

DEPLOY = Path(__file__).parents[2] / "deploy"
BODY = {
    "model": "glm-tiny",
    "prompt": "x",
    "max_tokens": 200,
    "ignore_eos": True,
    "stream": True,
    "temperature": 0,
}
STREAMS = 12
"""Of each round."""


class Proxy:
    """A running proxy.

    Args:
        reload_signal: makes its master process read the configuration anew.
    """

    def __init__(self, process: subprocess.Popen[bytes], port: int, reload_signal: int) -> None:
        self._process = process
        self.url = f"http://127.0.0.1:{port}"
        self._reload_signal = reload_signal

    def reload(self) -> None:
        self._process.send_signal(self._reload_signal)

    def wait_until_ready(self) -> None:
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:
            try:
                if httpx.get(f"{self.url}/health/ready").status_code == 200:
                    return
            except httpx.HTTPError:
                pass
            time.sleep(0.05)
        raise AssertionError("the proxy finds no server")


@contextmanager
def haproxy(folder: Path, servers: list[int]) -> Iterator[Proxy]:
    port, metrics = free_ports(2)
    environment = {
        **os.environ,
        "LISTEN": f"127.0.0.1:{port}",
        "METRICS": f"127.0.0.1:{metrics}",
        "SERVER_A": f"127.0.0.1:{servers[0]}",
        "SERVER_B": f"127.0.0.1:{servers[1]}",
    }
    command = ["haproxy", "-W", "-f", str(DEPLOY / "haproxy" / "haproxy.cfg")]
    with running(command, environment) as process:
        yield Proxy(process, port, signal.SIGUSR2)


@contextmanager
def nginx(folder: Path, servers: list[int]) -> Iterator[Proxy]:
    (port,) = free_ports(1)
    text = (DEPLOY / "nginx" / "glmserve.conf").read_text()
    for old, new in (("8080", port), ("8001", servers[0]), ("8002", servers[1])):
        assert text.count(f"127.0.0.1:{old}") == 1
        text = text.replace(f"127.0.0.1:{old}", f"127.0.0.1:{new}")
    (folder / "site.conf").write_text(text)
    (folder / "nginx.conf").write_text(
        f"daemon off; worker_processes 1; pid {folder}/pid; error_log stderr;\n"
        "events {}\n"
        f"http {{ access_log off; client_body_temp_path {folder}/body; "
        f"proxy_temp_path {folder}/proxy; fastcgi_temp_path {folder}/f; "
        f"uwsgi_temp_path {folder}/u; scgi_temp_path {folder}/s; include {folder}/site.conf; }}\n"
    )
    with running(["nginx", "-c", str(folder / "nginx.conf")], dict(os.environ)) as process:
        yield Proxy(process, port, signal.SIGHUP)


@contextmanager
def running(command: list[str], environment: dict[str, str]) -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen(command, env=environment, start_new_session=True)
    try:
        yield process
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


PROXIES = {"haproxy": haproxy, "nginx": nginx}


class Fleet:
    """Two servers behind a proxy."""

    def __init__(self, proxy: Proxy, ports: list[int], stack: ExitStack) -> None:
        self.proxy = proxy
        self.ports = ports
        self._stack = stack
        self.servers = [self._start(port) for port in ports]

    def replace(self, number: int) -> None:
        """Start a server at the place of one that has ended."""
        self.servers[number].wait()
        self.servers[number] = self._start(self.ports[number])

    def _start(self, port: int) -> ServerProcess:
        return self._stack.enter_context(ServerProcess("--port", str(port)))


@pytest.fixture(params=PROXIES)
def fleet(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Fleet]:
    if shutil.which(request.param) is None:
        pytest.skip(f"needs {request.param}")
    ports = free_ports(2)
    with ExitStack() as stack:
        proxy = stack.enter_context(PROXIES[request.param](tmp_path, ports))
        fleet = Fleet(proxy, ports, stack)
        proxy.wait_until_ready()
        yield fleet


async def read(client: httpx.AsyncClient) -> tuple[int, str]:
    """Status and text of a stream; status 0: it was cut."""
    lines = []
    try:
        async with client.stream("POST", "/v1/completions", json=BODY) as response:
            lines = [line async for line in response.aiter_lines()]
            is_whole = "data: [DONE]" in lines
            return (response.status_code if is_whole else 0), "\n".join(lines)
    except httpx.HTTPError:
        return 0, "\n".join(lines)


@pytest.fixture
async def client(fleet: Fleet) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=fleet.proxy.url, timeout=120) as made:
        yield made


async def begun(
    client: httpx.AsyncClient, count: int = STREAMS
) -> list[asyncio.Task[tuple[int, str]]]:
    tasks = [asyncio.create_task(read(client)) for _ in range(count)]
    await asyncio.sleep(0.3)
    return tasks


@pytest.mark.deploy
async def test_tokens_come_one_by_one(client: httpx.AsyncClient) -> None:
    arrivals = []
    async with client.stream("POST", "/v1/completions", json=BODY) as response:
        async for _ in response.aiter_lines():
            arrivals.append(time.monotonic())
    assert arrivals[-1] - arrivals[0] > 0.05
    assert len(set(arrivals)) > 50


@pytest.mark.deploy
async def test_a_reload_cuts_no_stream(fleet: Fleet, client: httpx.AsyncClient) -> None:
    streams = await begun(client)
    fleet.proxy.reload()
    streams += await begun(client)
    assert [status for status, _ in await asyncio.gather(*streams)] == [200] * len(streams)


@pytest.mark.deploy
async def test_servers_are_replaced_one_by_one(fleet: Fleet, client: httpx.AsyncClient) -> None:
    """Each is stopped as `systemctl restart` does; no stream is cut, no request is refused."""
    streams = []
    for number in range(2):
        streams += await begun(client)
        os.kill(fleet.servers[number].pid, signal.SIGTERM)
        for _ in range(4):
            streams += await begun(client, 2)
        await asyncio.to_thread(fleet.replace, number)
        await asyncio.sleep(2)  # the proxy's memory of a server that failed
    assert [status for status, _ in await asyncio.gather(*streams)] == [200] * len(streams)


@pytest.mark.deploy
async def test_a_server_that_is_killed(fleet: Fleet, client: httpx.AsyncClient) -> None:
    """Its streams are cut, the other's are whole, and new requests are answered."""
    streams = await begun(client)
    os.kill(fleet.servers[0].pid, signal.SIGKILL)
    later = await begun(client)
    cut = [status for status, _ in await asyncio.gather(*streams)].count(0)
    assert 0 < cut < STREAMS
    assert [status for status, _ in await asyncio.gather(*later)] == [200] * STREAMS
