"""Streams of a server whose worker is killed again and again."""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
from collections import defaultdict
from dataclasses import dataclass, field
from typing import Any

import httpx

from mixed_requests import requests_of_mixed_lengths
from server_process import ServerProcess, worker_of

SCHEMA = {
    "type": "object",
    "properties": {"a": {"type": "string", "minLength": 300, "maxLength": 400}},
    "required": ["a"],
    "additionalProperties": False,
}


def long_requests(number: int) -> list[dict[str, Any]]:
    """Greedy and sampled, held to a schema, with a penalty, in groups."""
    bodies = [
        body | {"ignore_eos": True, "max_tokens": 300 + 5 * i}
        for i, body in enumerate(requests_of_mixed_lengths(number))
    ]
    schema = {"type": "json_schema", "json_schema": {"name": "x", "schema": SCHEMA}}
    for i, body in enumerate(bodies):
        if i % 8 == 1:
            body |= {"response_format": schema, "ignore_eos": False, "max_tokens": 600}
        if i % 8 == 2:
            body |= {"n": 2, "temperature": 0.9, "seed": i}
        if i % 8 == 3:
            body |= {"presence_penalty": 0.5}
    return bodies


@dataclass
class Stream:
    """What a client has read so far, by choice."""

    body: dict[str, Any]
    texts: defaultdict[int, str] = field(default_factory=lambda: defaultdict(str))
    ends: dict[int, str] = field(default_factory=dict)
    events: defaultdict[int, int] = field(default_factory=lambda: defaultdict(int))

    @property
    def news(self) -> dict[int, int]:
        """Events of each choice that goes on; it may not have begun."""
        return {i: self.events[i] for i in range(self.body.get("n", 1)) if i not in self.ends}

    def has_moved(self, before: dict[int, int]) -> bool:
        """Whether each choice has gained something, or is over."""
        return all(i in self.ends or self.events[i] > count for i, count in before.items())

    async def read(self, client: httpx.AsyncClient) -> None:
        async with client.stream("POST", "/v1/chat/completions", json=self.body) as response:
            assert response.status_code == 200, await response.aread()
            async for line in response.aiter_lines():
                if line.startswith("data: {"):
                    event = json.loads(line[6:])
                    assert "error" not in event, event
                    for choice in event["choices"]:
                        self._take(choice)

    def _take(self, choice: dict[str, Any]) -> None:
        index, text = choice["index"], choice["delta"].get("content", "")
        self.texts[index] += text
        self.events[index] += bool(text)
        if choice["finish_reason"]:
            self.ends[index] = choice["finish_reason"]


async def read_all(
    server: ServerProcess, bodies: list[dict[str, Any]], kills: int = 0, seed: int = 0
) -> tuple[list[Stream], int]:
    """Read all streams at once, while the worker is killed at random; how often it was."""
    streams = [Stream(body) for body in bodies]
    killer = asyncio.create_task(kill_worker(server, streams, kills, random.Random(seed)))
    limits = httpx.Limits(max_connections=None)
    async with httpx.AsyncClient(base_url=server.url, limits=limits, timeout=120) as client:
        await asyncio.gather(*(stream.read(client) for stream in streams))
    return streams, await killer


async def kill_worker(
    server: ServerProcess, streams: list[Stream], kills: int, rng: random.Random
) -> int:
    """Kill it up to `kills` times, at most twice before everybody has gained a token.

    Nothing tells a request that is killed with its worker three times without any progress from
    one that kills it.
    """
    done = 0
    while done < kills and await everybody_moves(streams):
        for _ in range(min(rng.choice([1, 1, 2]), kills - done)):
            await asyncio.sleep(rng.uniform(0, 0.2))
            before = server.metric("glmserve_worker_restarts_total")
            os.kill(worker_of(server.pid), signal.SIGKILL)
            done += 1
            while server.metric("glmserve_worker_restarts_total") == before:
                await asyncio.sleep(0.01)
    return done


async def everybody_moves(streams: list[Stream]) -> bool:
    """Wait until every stream has gained something or is over; whether any goes on."""
    before = [stream.news for stream in streams]
    while not all(s.has_moved(news) for s, news in zip(streams, before, strict=True)):
        await asyncio.sleep(0.002)
    return any(stream.news for stream in streams)
