"""The server is killed, and no client loses or repeats anything."""

from __future__ import annotations

import asyncio
import os
import random
import resource
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from anthropic import Anthropic
from openai import OpenAI

from support.ports import free_port
from support.server_process import ServerProcess
from support.sse_client import SseClient
from support.streaming import texts_of

CHAT, TEXT = "/v1/chat/completions", "/v1/completions"
COMMITS = "glmserve_journal_commits_total"
WEATHER = {
    "name": "get_weather",
    "parameters": {
        "type": "object",
        "properties": {"city": {"type": "string"}},
        "required": ["city"],
    },
}
LONG_TEXT = {
    "type": "object",
    "properties": {"a": {"type": "string", "minLength": 200, "maxLength": 300}},
    "required": ["a"],
    "additionalProperties": False,
}


def ask(text: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": text}]


def requests() -> list[tuple[str, dict[str, Any]]]:
    """Of all four APIs: greedy, sampled, in pairs, scored, with tools, held to a schema."""
    long = {"ignore_eos": True, "max_tokens": 250}
    schema = {"type": "json_schema", "json_schema": {"name": "x", "schema": LONG_TEXT}}
    tool = {"type": "function", "function": WEATHER}
    weather = ask("What's the weather in Paris?")
    prompt = [i % 200 + 100 for i in range(60)]
    return [
        (CHAT, {"messages": ask("What is glmserve?"), "temperature": 0, **long}),
        (CHAT, {"messages": ask("写一首诗"), "temperature": 0.9, "seed": 3, **long}),
        (CHAT, {"messages": ask("Hello!"), "n": 2, "seed": 4, "logprobs": True, **long}),
        (CHAT, {"messages": weather, "tools": [tool], "tool_choice": "required", "seed": 5}),
        (CHAT, {"messages": ask("A city?"), "response_format": schema, "seed": 6}),
        (TEXT, {"prompt": ["Once", "A server"], "n": 2, "seed": 7, "stop": ["\u2603"], **long}),
        (TEXT, {"prompt": prompt, "echo": True, "logprobs": 1, "temperature": 0, **long}),
        ("/v1/responses", {"input": "What is glmserve?", "seed": 8, "temperature": 1.0}),
        (
            "/v1/responses",
            {"input": "Paris?", "tools": [{"type": "function", **WEATHER}], "seed": 9},
        ),
        ("/v1/messages", {"messages": ask("Hi!"), "max_tokens": 250, "temperature": 0}),
    ]


def client_of(server: ServerProcess) -> httpx.AsyncClient:
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=0)
    return httpx.AsyncClient(base_url=server.url, limits=limits, timeout=60)


class Servers:
    """One after the other, on the same port and the same journal."""

    def __init__(self, folder: Path, *options: str) -> None:
        port, journal = str(free_port()), str(folder / "journal")
        self._arguments = ("--dtype", "float32", "--port", port, "--journal", journal, *options)
        self.now = self._start()

    def _start(self) -> ServerProcess:
        return ServerProcess(*self._arguments).__enter__()

    async def replace(self, number: signal.Signals = signal.SIGKILL) -> None:
        """End this one, and start the next."""
        os.kill(self.now.pid, number)
        await asyncio.to_thread(self.now.wait)
        self.now = await asyncio.to_thread(self._start)


async def until(condition: Callable[[], bool]) -> None:
    while not condition():
        await asyncio.sleep(0.01)


async def read_all(servers: Servers, kills: int, seed: int = 0) -> list[SseClient]:
    """All streams at once, while one server after the other is killed in the midst of them."""
    streams = [
        SseClient(path, {"model": "glm-tiny", "stream": True, **body}) for path, body in requests()
    ]
    rng = random.Random(seed)
    async with client_of(servers.now) as client:
        reading = [asyncio.create_task(stream.read(client)) for stream in streams]
        for _ in range(kills):
            before = sum(len(stream.events) for stream in streams)
            wanted = before + rng.randrange(20, 200)
            while sum(len(stream.events) for stream in streams) < wanted:
                await asyncio.sleep(0.001)
                if all(task.done() for task in reading):
                    break
            await servers.replace()
        return await asyncio.gather(*reading)


@pytest.mark.slow
async def test_streams_of_servers_that_are_killed(tmp_path: Path) -> None:
    servers = Servers(tmp_path)
    try:
        undisturbed = await read_all(servers, kills=0)
        streams = await read_all(servers, kills=3, seed=11)
        assert sum(stream.connections > 2 for stream in streams) > 4
        for stream, alone in zip(streams, undisturbed, strict=True):
            assert texts_of(stream.events) == texts_of(alone.events)
        # What was read in pieces is one stream, event by event.
        async with client_of(servers.now) as client:
            for stream in streams:
                first = stream.last_id.split(":")[0] + ":0:0"
                again = await SseClient(stream.path, stream.body, last_id=first).read(client)
                assert without_ids(again.events) == without_ids(stream.events)
        servers.now.wait_until_idle()
        assert servers.now.metric("glmserve_journal_commit_failures_total") == 0
        assert "Traceback" not in servers.now.text
    finally:
        servers.now.stop()


def without_ids(events: list[bytes]) -> list[bytes]:
    """Less the last number of each id, which says how far the record was ahead."""
    return [
        event.split(b"\n", 1)[0].rsplit(b":", 1)[0] + event.split(b"\n", 1)[1] for event in events
    ]


@pytest.mark.exhaustive
async def test_whole_answers_of_servers_that_are_killed(tmp_path: Path) -> None:
    bodies = [(path, {"model": "glm-tiny", **body}) for path, body in requests()]
    servers = Servers(tmp_path)
    try:
        async with client_of(servers.now) as client:
            expected = [texts(await post(client, path, body)) for path, body in bodies]

            async def insist(number: int) -> httpx.Response:
                """Some have a key and some have not: both ways lead to the answer."""
                key = {"Idempotency-Key": f"key {number}".replace(" ", "-")} if number % 2 else {}
                path, body = bodies[number]
                while True:
                    try:
                        response = await post(client, path, body, key)
                    except httpx.TransportError:
                        await asyncio.sleep(0.05)
                        continue
                    if response.status_code != 503:
                        return response

            commits = servers.now.metric(COMMITS)
            asking = [asyncio.create_task(insist(number)) for number in range(len(bodies))]
            await until(lambda: servers.now.metric(COMMITS) > commits + 1)
            await servers.replace()
            answers = await asyncio.gather(*asking)
        assert [texts(answer) for answer in answers] == expected
        assert any(answer.headers.get("idempotent-replayed") == "true" for answer in answers)
        servers.now.wait_until_idle()
    finally:
        servers.now.stop()


async def post(
    client: httpx.AsyncClient,
    path: str,
    body: dict[str, Any],
    headers: dict[str, str] | None = None,
) -> httpx.Response:
    return await client.post(path, json=body, headers=headers)


def texts(response: httpx.Response) -> list[Any]:
    """What a whole answer says."""
    assert response.status_code == 200, response.text
    data = response.json()
    if "choices" in data:
        return [without_names(choice) for choice in data["choices"]]
    return [without_names(item) for item in data.get("output") or data["content"]]


def without_names(item: Any) -> Any:
    if isinstance(item, dict):
        skipped = {"id", "call_id", "created", "created_at", "logprobs"}
        return {k: without_names(v) for k, v in item.items() if k not in skipped}
    return [without_names(one) for one in item] if isinstance(item, list) else item


@pytest.mark.slow
async def test_what_nobody_waits_for_is_finished_by_the_next_server(tmp_path: Path) -> None:
    body = {"model": "glm-tiny", "input": "What is glmserve?", "temperature": 0}
    long = {**body, "max_output_tokens": 700, "ignore_eos": True}
    servers = Servers(tmp_path)
    try:
        async with client_of(servers.now) as client:
            first = (await post(client, "/v1/responses", body)).json()
            goes_on = {**long, "previous_response_id": first["id"]}
            commits = servers.now.metric(COMMITS)
            asking = asyncio.create_task(post(client, "/v1/responses", goes_on))
            await until(lambda: servers.now.metric(COMMITS) > commits)
            assert not asking.done()
            await servers.replace()
            with pytest.raises(httpx.TransportError):
                await asking
            while servers.now.metric("glmserve_journal_finished_after_restart_total") < 1:
                await asyncio.sleep(0.02)
            answer = (await post(client, "/v1/responses", goes_on)).json()
            assert answer["usage"]["output_tokens"] == 700
            stored = (await client.get(f"/v1/responses/{answer['id']}")).json()
            assert stored == answer
            other = (await post(client, "/v1/responses", long)).json()
            assert other["id"] != answer["id"]
    finally:
        servers.now.stop()


@pytest.mark.slow
async def test_a_restart_in_the_midst_of_a_stream(tmp_path: Path) -> None:
    servers = Servers(tmp_path, "--drain-timeout", "0.2")
    body = {"model": "glm-tiny", "stream": True, "temperature": 0, "ignore_eos": True}
    body |= {"prompt": "Once", "max_tokens": 700}
    try:
        async with client_of(servers.now) as client:
            alone = await SseClient(TEXT, body).read(client)
            stream = SseClient(TEXT, body)
            reading = asyncio.create_task(stream.read(client))
            while len(stream.events) < 20:
                await asyncio.sleep(0.001)
            await servers.replace(signal.SIGTERM)
            await reading
        assert stream.connections == 2
        assert texts_of(stream.events) == texts_of(alone.events)
    finally:
        servers.now.stop()


@pytest.mark.slow
def test_official_clients_read_events_with_ids(tmp_path: Path) -> None:
    hello: Any = ask("What is glmserve?")
    with (
        ServerProcess("--dtype", "float32", "--journal", str(tmp_path)) as server,
        OpenAI(base_url=f"{server.url}/v1", api_key="none") as openai,
        Anthropic(base_url=server.url, api_key="none") as anthropic,
    ):
        chunks = openai.chat.completions.create(
            model="glm-tiny", messages=hello, stream=True, temperature=0
        )
        said = "".join(chunk.choices[0].delta.content or "" for chunk in chunks)
        with anthropic.messages.stream(
            model="glm-tiny", messages=hello, max_tokens=200, extra_body={"temperature": 0}
        ) as stream:
            assert "".join(stream.text_stream) == said
        once, again = (
            openai.chat.completions.create(
                model="glm-tiny",
                messages=hello,
                temperature=1.0,
                extra_headers={"Idempotency-Key": "k"},
            )
            for _ in range(2)
        )
        assert once == again


@pytest.mark.slow
def test_folders_that_are_not_this_servers(tmp_path: Path) -> None:
    arguments = ("--device", "null", "--journal", str(tmp_path))
    with ServerProcess(*arguments):
        second = ServerProcess(*arguments, wait=False)
        assert second.wait() == 2
        assert second.text.strip() == (
            f"glmserve: error: --journal {tmp_path} is in use by another server; each needs one "
            "of its own"
        )
    other = ServerProcess(*arguments, "--dtype", "bfloat16", wait=False)
    assert other.wait() == 2
    assert "belongs to another model" in other.text
    assert "Traceback" not in other.text
    (tmp_path / "journal.sqlite").write_bytes(b"what once was a journal" * 1000)
    damaged = ServerProcess(*arguments, wait=False)
    assert damaged.wait() == 1
    assert "is damaged" in damaged.text
    assert len(damaged.text.strip().splitlines()) == 1


@pytest.mark.slow
async def test_a_disk_without_space_under_live_streams(tmp_path: Path) -> None:
    """A file size limit fails in the same place as a full disk does: in the write itself."""
    servers = Servers(tmp_path)
    bodies = [{"model": "glm-tiny", "prompt": "Once", "stream": True, "seed": i} for i in range(4)]
    bodies = [body | {"ignore_eos": True, "max_tokens": 150} for body in bodies]
    try:
        async with client_of(servers.now) as client:

            async def read(body: dict[str, Any]) -> list[bytes]:
                content = (await post(client, TEXT, body)).raise_for_status().content
                return [event + b"\n\n" for event in content.split(b"\n\n")[:-1]]

            expected = await asyncio.gather(*map(read, bodies))
            reading = [asyncio.create_task(read(body)) for body in bodies]
            await until(lambda: servers.now.metric("glmserve_requests_running") == len(bodies))
            size = max(path.stat().st_size for path in (tmp_path / "journal").iterdir())
            resource.prlimit(servers.now.pid, resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))
            found = await asyncio.gather(*reading)
            found += await asyncio.gather(*map(read, bodies))
            assert [texts_of(events) for events in found] == [*map(texts_of, expected * 2)]
            assert not any(event.startswith(b"id: ") for event in found[-1])
            assert servers.now.metric("glmserve_journal_commit_failures_total") > 0
            assert servers.now.text.count("the journal cannot be written") == 1
            unlimited = (resource.RLIM_INFINITY, resource.RLIM_INFINITY)
            resource.prlimit(servers.now.pid, resource.RLIMIT_FSIZE, unlimited)
            stream = SseClient(TEXT, bodies[0] | {"max_tokens": 600})
            again = asyncio.create_task(stream.read(client))
            while len(stream.events) < 5:
                await asyncio.sleep(0.001)
                assert not again.done(), stream.events
            await servers.replace()
            await again
            alone = await SseClient(TEXT, stream.body).read(client)
            assert texts_of(stream.events) == texts_of(alone.events)
            assert stream.connections == 2
    finally:
        servers.now.stop()
