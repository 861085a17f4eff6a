"""Three servers, one journal in Redis, HAProxy before them: replicas die, and the store does."""

from __future__ import annotations

import asyncio
import os
import random
import shutil
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from support.ports import free_ports
from support.redis_server import RedisServer
from support.server_process import ServerProcess
from support.sse_client import SseClient
from support.streaming import texts_of

DEPLOY = Path(__file__).parents[2] / "deploy"
TEXT = "/v1/completions"
KILLS, STREAMS = 20, 48


@contextmanager
def haproxy(folder: Path, servers: list[int]) -> Iterator[str]:
    """deploy/haproxy with a third server. Yields its URL."""
    if shutil.which("haproxy") is None:
        pytest.skip("needs haproxy")
    port, metrics = free_ports(2)
    text = (DEPLOY / "haproxy" / "haproxy.cfg").read_text()
    second = '    server b "${SERVER_B-127.0.0.1:8002}"\n'
    assert text.count(second) == 1
    (folder / "haproxy.cfg").write_text(
        text.replace(second, f"{second}    server c 127.0.0.1:{servers[2]}\n")
    )
    environment = {
        **os.environ,
        "LISTEN": f"127.0.0.1:{port}",
        "METRICS": f"127.0.0.1:{metrics}",
        "SERVER_A": f"127.0.0.1:{servers[0]}",
        "SERVER_B": f"127.0.0.1:{servers[1]}",
    }
    process = subprocess.Popen(
        ["haproxy", "-W", "-f", str(folder / "haproxy.cfg")],
        env=environment,
        start_new_session=True,
    )
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


class Fleet:
    """Three servers that share a journal."""

    def __init__(self, redis: RedisServer, stack: ExitStack) -> None:
        self.ports = free_ports(3)
        self._journal = redis.url()
        self._stack = stack
        self.servers = [self._start(port) for port in self.ports]

    async def replace(self, number: int) -> None:
        """Kill a server, and start another one in its place."""
        os.kill(self.servers[number].pid, signal.SIGKILL)
        await asyncio.to_thread(self.servers[number].wait)
        self.servers[number] = await asyncio.to_thread(self._start, self.ports[number])

    def metric(self, name: str) -> float:
        return sum(server.metric(f"glmserve_journal_{name}_total") for server in self.servers)

    def _start(self, port: int) -> ServerProcess:
        options = ("--port", str(port), "--dtype", "float32", "--journal", self._journal)
        return self._stack.enter_context(ServerProcess(*options))


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[RedisServer]:
    server = RedisServer(tmp_path)
    yield server
    server.stop()


@pytest.fixture
def fleet(redis: RedisServer) -> Iterator[Fleet]:
    with ExitStack() as stack:
        yield Fleet(redis, stack)


@pytest.fixture
def url(fleet: Fleet, tmp_path: Path) -> Iterator[str]:
    with haproxy(tmp_path, fleet.ports) as url:
        deadline = time.monotonic() + 30
        while not is_ready(url):
            assert time.monotonic() < deadline
            time.sleep(0.05)
        yield url


def is_ready(url: str) -> bool:
    try:
        return httpx.get(f"{url}/health/ready").status_code == 200
    except httpx.HTTPError:
        return False


def body(number: int) -> dict[str, Any]:
    sampling = {"temperature": 1.0, "seed": number} if number % 2 else {"temperature": 0}
    return {
        "model": "glm-tiny",
        "prompt": f"Number {number}",
        "ignore_eos": True,
        "max_tokens": 400,
        **sampling,
    }


@dataclass
class Client(SseClient):
    """Asks anew if the server has withdrawn the last id: it could not record the stream."""

    asked_anew: int = 0

    async def _connect(self, client: httpx.AsyncClient) -> None:
        if self.events and not self.last_id:
            self.asked_anew += 1
            self.events.clear()
        await super()._connect(client)


def client_of(url: str) -> httpx.AsyncClient:
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=0)
    return httpx.AsyncClient(base_url=url, limits=limits, timeout=120)


@pytest.mark.deploy
@pytest.mark.timeout(900)
async def test_replicas_and_the_store_are_killed_under_streams(
    fleet: Fleet, redis: RedisServer, url: str
) -> None:
    rng = random.Random(17)
    counts: Counter[str] = Counter()
    are_over = asyncio.Event()
    async with client_of(url) as client:
        alone = [
            texts_of((await Client(TEXT, body(n) | {"stream": True}).read(client)).events)
            for n in range(STREAMS)
        ]

        async def read(number: int) -> None:
            while not are_over.is_set():
                stream = Client(TEXT, body(number) | {"stream": True})
                await stream.read(client)
                assert texts_of(stream.events) == alone[number]
                counts["streams"] += 1
                counts["resumed"] += stream.connections > 1
                counts["asked anew"] += stream.asked_anew

        reading = [asyncio.create_task(read(number)) for number in range(STREAMS)]
        for kill in range(KILLS):
            await asyncio.sleep(rng.uniform(0.5, 1.5))
            if kill in (7, 14):
                redis.stop()
                await asyncio.sleep(1.0)
                redis.start()
                await asyncio.sleep(1.5)
            await fleet.replace(rng.randrange(3))
            assert not any(task.done() for task in reading)
        are_over.set()
        await asyncio.gather(*reading)
    print(dict(counts))
    assert counts["resumed"] > STREAMS
    for server in fleet.servers:
        server.wait_until_idle()
        assert "Traceback" not in server.text


@pytest.mark.deploy
@pytest.mark.timeout(300)
async def test_whole_answers_of_a_replica_that_is_killed(fleet: Fleet, url: str) -> None:
    """With a key, and without one: each is answered, by one of the other servers."""
    counts: Counter[str] = Counter()
    async with client_of(url) as client:

        async def insist(number: int, run: int, *, has_key: bool) -> str:
            headers = {"Idempotency-Key": f"run{run}-{number}"} if has_key else {}
            while True:
                try:
                    response = await client.post(TEXT, json=body(number), headers=headers)
                except httpx.TransportError:
                    counts["cut"] += 1
                    await asyncio.sleep(0.05)
                    continue
                if response.status_code in (502, 503):
                    await asyncio.sleep(0.05)
                    continue
                assert response.status_code == 200, response.text
                counts["replayed"] += response.headers.get("idempotent-replayed") == "true"
                return str(response.json()["choices"][0]["text"])

        async def all_of(run: int) -> list[str]:
            asking = [insist(n, run, has_key=n % 2 == 1) for n in range(STREAMS)]
            return await asyncio.gather(*asking)

        expected = await all_of(0)
        asking = asyncio.create_task(all_of(1))
        await asyncio.sleep(0.5)
        await fleet.replace(1)
        assert await asking == expected
        await asyncio.sleep(7)  # the lease of the dead server, and what is finished for no client
        print(
            dict(counts),
            "finished for clients that did not come back:",
            fleet.metric("finished_after_restart"),
        )
        assert counts["replayed"] > 0
