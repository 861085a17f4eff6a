"""Many clients, polite and not: what they leave behind is nothing."""

from __future__ import annotations

import asyncio
import random
from typing import Any

import httpx
import pytest

from support.misbehaving_clients import leave_often
from support.open_resources import open_files, resident_bytes, wait_for_open_files
from support.server_process import ServerProcess, worker_of

pytestmark = [pytest.mark.soak, pytest.mark.timeout(3600)]

LEAVING = 500
REQUESTS = 20_000
MEGABYTES = 2**20
GROWTH = 16 * MEGABYTES
"""Far less than a kilobyte for each request: the allocator's own ups and downs are in it."""


def test_500_clients_that_leave() -> None:
    with ServerProcess("--dtype", "float32") as server:
        asyncio.run(leave_often(server.address, 50, at_once=10, seed=1))
        server.wait_until_idle(60)
        files = open_files(server.pid)
        for seed in range(LEAVING // 100):
            asyncio.run(leave_often(server.address, 100, at_once=25, seed=2 + seed))
        server.wait_until_idle(60)
        wait_for_open_files(server.pid, files)
        assert server.metric("glmserve_requests_waiting") == 0
        assert server.metric("glmserve_worker_restarts_total") == 0


def test_memory_is_flat_over_20000_requests() -> None:
    arguments = ("--device", "null", "--cache-size", "100", "--response-store-size", "100")
    with ServerProcess(*arguments) as server:
        asyncio.run(send(server, REQUESTS, seed=0))  # until its caches and arenas are full
        before = memory(server)
        for part in range(4):
            asyncio.run(send(server, REQUESTS // 4, seed=1 + part))
            print(part, [f"{now / MEGABYTES:.1f} MB" for now in memory(server)])
        for was, now in zip(before, memory(server), strict=True):
            assert now - was < GROWTH
        server.wait_until_idle()


def memory(server: ServerProcess) -> tuple[int, int]:
    """Of the server and of its worker."""
    return resident_bytes(server.pid), resident_bytes(worker_of(server.pid))


async def send(server: ServerProcess, count: int, seed: int) -> None:
    """Requests of all kinds, 32 at a time, some of them wrong and some given up."""
    rng = random.Random(seed)
    places = asyncio.Semaphore(32)
    async with httpx.AsyncClient(base_url=server.url, timeout=120) as client:

        async def one() -> None:
            async with places:
                path, body = some_request(rng)
                response = await client.post(path, json=body)
                assert response.status_code in (200, 400), response.text

        for _ in range(count // 1000):
            await asyncio.gather(*(one() for _ in range(1000)))


def some_request(rng: random.Random) -> tuple[str, dict[str, Any]]:
    text = "".join(rng.choices("abcdefgh 中文", k=rng.randrange(1, 300)))
    message = {"role": "user", "content": text}
    own: dict[str, Any] = {"model": "glm-tiny", "stream": rng.random() < 0.5}
    limited = {**own, "max_tokens": rng.randrange(1, 20), "temperature": rng.choice([0, 1])}
    choice = {"type": "function", "function": {"name": f"f{rng.randrange(500)}"}}
    schema = {"type": "object", "properties": {f"k{rng.randrange(200)}": {"type": "null"}}}
    return rng.choice(
        [
            ("/v1/completions", {**limited, "prompt": text}),
            ("/v1/completions", {**limited, "prompt": [text, text[:9]], "n": 2, "logprobs": 3}),
            ("/v1/completions", {**limited, "prompt": text, "stop": [text[:3]]}),
            ("/v1/completions", {**limited, "prompt": text, "guided_json": schema}),
            ("/v1/completions", {**limited, "prompt": text, "guided_regex": "(("}),
            ("/v1/chat/completions", {**limited, "messages": [message], "logprobs": True}),
            ("/v1/chat/completions", {**limited, "messages": [message], "tools": [choice]}),
            ("/v1/chat/completions", {**limited, "messages": [{"role": text}]}),
            ("/v1/responses", {**own, "input": text, "max_output_tokens": 5}),
            ("/v1/messages", {**own, "messages": [message], "max_tokens": 5}),
            ("/v1/embeddings", {"model": "glm-tiny", "input": text}),
            ("/tokenize", {"prompt": text}),
        ]
    )
