"""deploy/ray: a real cluster streams, keeps conversations together, and loses replicas."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

import httpx
import pytest

from support import ray_serve
from support.conversations import cached_share
from support.ray_serve import Application, replicas

pytestmark = [
    pytest.mark.ray,
    pytest.mark.timeout(400),
    pytest.mark.filterwarnings("ignore"),  # warnings of Ray
]
CHAT = "/v1/chat/completions"
BODY = {"prompt": "x", "max_tokens": 400, "ignore_eos": True, "stream": True, "temperature": 0}
STREAMS = 12


@pytest.fixture(scope="module")
def application(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Application]:
    pytest.importorskip("ray.serve", reason="needs Ray Serve; pip install 'glmserve[ray]'")
    pytest.importorskip("yaml")
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with ray_serve.cluster(cpus=8) as address:
        made = Application(address, tmp_path_factory.mktemp("ray"), port)
        made.deploy(made.config)
        made.wait_until_served()
        yield made


async def read(client: httpx.AsyncClient, number: int) -> str:
    """What became of a stream of a session of its own."""
    try:
        headers = {"x-session-id": str(number)}
        async with client.stream("POST", "/v1/completions", json=BODY, headers=headers) as response:
            if response.status_code != 200:
                return f"status {response.status_code}"
            lines = [line async for line in response.aiter_lines()]
    except httpx.HTTPError:
        return "cut"
    return "whole" if "data: [DONE]" in lines else "cut"


async def begun(client: httpx.AsyncClient) -> list[asyncio.Task[str]]:
    tasks = [asyncio.create_task(read(client, number)) for number in range(STREAMS)]
    await asyncio.sleep(0.5)
    return tasks


def client_of(application: Application) -> httpx.AsyncClient:
    return httpx.AsyncClient(base_url=application.url, timeout=120)


async def test_tokens_come_one_by_one(application: Application) -> None:
    arrivals = []
    async with (
        client_of(application) as client,
        client.stream("POST", "/v1/completions", json=BODY) as response,
    ):
        assert response.headers["content-type"].startswith("text/event-stream")
        async for line in response.aiter_lines():
            if line:
                arrivals.append(time.monotonic())
    assert arrivals[-1] - arrivals[0] > 0.05
    assert len(set(arrivals)) > 50


async def test_requests_and_answers_are_passed_on_as_they_are(application: Application) -> None:
    async with client_of(application) as client:
        answer = await client.get("/v1/models", headers={"X-Request-Id": "mine"})
        assert answer.headers["x-request-id"] == "mine"
        names = [name for name, _ in answer.headers.multi_items()]
        assert len(names) == len(set(names))
        wrong = await client.post("/v1/completions?x=1", json={"prompt": "x", "max_token": 1})
        assert wrong.status_code == 400
        assert "max_token" in wrong.json()["error"]["message"]
        assert (await client.get("/v1/none")).status_code == 404
        large = await client.post("/v1/completions", content=b"x" * 8_000_001)
        assert large.status_code == 413


async def test_a_client_that_leaves_ends_its_request(application: Application) -> None:
    body = BODY | {"max_tokens": 1500}
    async with client_of(application) as client:
        for _ in range(4):
            async with client.stream("POST", "/v1/completions", json=body) as response:
                await anext(response.aiter_lines())
        deadline = time.monotonic() + 10
        while await running(client):
            assert time.monotonic() < deadline, "requests run on"
            await asyncio.sleep(0.1)


async def running(client: httpx.AsyncClient) -> bool:
    """Whether a server has requests; several are asked, in turn."""
    texts = [(await client.get("/metrics")).text for _ in range(8)]
    values = [line for text in texts for line in text.splitlines() if "requests_running{" in line]
    assert values
    return any(float(value.split()[-1]) for value in values)


async def test_conversations_stay_with_their_caches(application: Application) -> None:
    near = await cached_share(application.url, CHAT, seed=1)
    application.deploy(application.without_affinity())
    application.wait_until_served()
    far = await cached_share(application.url, CHAT, seed=2)
    application.deploy(application.config)
    application.wait_until_served()
    print(f"cached with affinity {near:.0%}, without {far:.0%}")
    assert near > 0.6
    assert near > far + 0.1


@pytest.mark.parametrize("what", ["actor", "server"])
async def test_a_replica_that_is_killed(application: Application, what: str) -> None:
    """Its streams are cut, the other's are whole, new requests are answered, it is replaced."""
    before = replicas()
    actor, server = next(iter(before.items()))
    async with client_of(application) as client:
        streams = await begun(client)
        os.kill(actor if what == "actor" else server, signal.SIGKILL)
        later = await begun(client)
        outcomes = await asyncio.gather(*streams)
        assert set(outcomes) == {"whole", "cut"}
        assert set(await asyncio.gather(*later)) == {"whole"}
    await asyncio.to_thread(application.wait_until_served, gone=[actor])
    with pytest.raises(ProcessLookupError):
        os.kill(server, 0)


@asynccontextmanager
async def asked_without_pause(client: httpx.AsyncClient) -> AsyncIterator[list[str]]:
    """What became of the streams of clients that begin another when one has ended."""
    is_over = asyncio.Event()
    outcomes: list[str] = []

    async def ask_on(number: int) -> None:
        while not is_over.is_set():
            outcomes.append(await read(client, number))

    async with asyncio.TaskGroup() as clients:
        for number in range(STREAMS):
            clients.create_task(ask_on(number))
        yield outcomes
        is_over.set()


async def test_a_redeploy_cuts_no_stream(application: Application) -> None:
    """Other options replace each server."""
    before = replicas()
    async with client_of(application) as client:
        async with asked_without_pause(client) as outcomes:
            await asyncio.to_thread(application.deploy, application.named("other"))
            await asyncio.to_thread(application.wait_until_served, gone=before)
        models = (await client.get("/v1/models")).json()["data"]
    assert models[0]["id"] == "other"
    print(f"{len(outcomes)} streams during the redeploy")
    assert len(outcomes) > STREAMS
    assert set(outcomes) == {"whole"}


async def test_more_streams_start_more_replicas(application: Application) -> None:
    config = application.scaled(target=2, largest=3)
    async with client_of(application) as client, asked_without_pause(client) as outcomes:
        await asyncio.to_thread(application.deploy, config)
        await asyncio.to_thread(application.wait_until_served, count=3)
    assert set(outcomes) == {"whole"}
