"""Streams of a server whose worker is killed again and again."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import random
import signal
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import httpx

from support.mixed_requests import requests_of_mixed_lengths
from support.server_process import ServerProcess, workers_of

SCHEMA = {
    "type": "object",
    "properties": {"a": {"type": "string", "minLength": 300, "maxLength": 400}},
    "required": ["a"],
    "additionalProperties": False,
}


def long_requests(number: int) -> list[dict[str, Any]]:
    """Greedy and sampled ones, held to a schema, with a penalty, in groups."""
    bodies = [
        body | {"ignore_eos": True, "max_tokens": 150 + 5 * i}
        for i, body in enumerate(requests_of_mixed_lengths(number))
    ]
    schema = {"type": "json_schema", "json_schema": {"name": "x", "schema": SCHEMA}}
    for i, body in enumerate(bodies):
        if i % 8 == 1:
            body |= {"response_format": schema, "ignore_eos": False, "max_tokens": 500}
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
    server: ServerProcess,
    bodies: list[dict[str, Any]],
    kills: int = 0,
    seed: int = 0,
    signals: Sequence[signal.Signals] = (signal.SIGKILL,),
) -> tuple[list[Stream], int]:
    """Read all streams at once, while a worker is killed at random; how often one was.

    Args:
        signals: each kill sends one of them to one of the workers, by chance.
    """
    streams = [Stream(body) for body in bodies]
    killer = Killer(server, streams, random.Random(seed), signals)
    limits = httpx.Limits(max_connections=None)
    async with httpx.AsyncClient(base_url=server.url, limits=limits, timeout=120) as client:
        killing = asyncio.create_task(killer.kill(kills, client))
        await asyncio.gather(*(stream.read(client) for stream in streams))
        return streams, await killing


class Killer:
    """Kills the worker at most twice before every stream has gained something.

    Nothing tells a request that is killed with its worker three times without any progress from
    one that kills it.
    """

    def __init__(
        self,
        server: ServerProcess,
        streams: list[Stream],
        rng: random.Random,
        signals: Sequence[signal.Signals],
    ) -> None:
        self._server = server
        self._streams = streams
        self._rng = rng
        self._signals = signals

    async def kill(self, most: int, client: httpx.AsyncClient) -> int:
        """Go on until the streams have ended; how often it was killed."""
        kills = 0
        while kills < most and await self._all_move():
            for _ in range(min(self._rng.choice([1, 1, 2]), most - kills)):
                await asyncio.sleep(self._rng.uniform(0, 0.1))
                await self._kill_once(client)
                kills += 1
        return kills

    async def _all_move(self) -> bool:
        """Wait until every stream has gained something or is over; whether any goes on."""
        before = [(stream, stream.news) for stream in self._streams]
        while not all(stream.has_moved(news) for stream, news in before):
            await asyncio.sleep(0.002)
        return any(stream.news for stream in self._streams)

    async def _kill_once(self, client: httpx.AsyncClient) -> None:
        """And wait for the next."""
        worker = self._rng.choice(workers_of(self._server.pid))
        os.kill(worker, self._rng.choice(self._signals))
        while (await client.get("/health/ready")).status_code == 200:
            if not any(stream.news for stream in self._streams):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(worker, signal.SIGKILL)  # a stop is noticed in a step: there is none
            await asyncio.sleep(0.001)
        while (await client.get("/health/ready")).status_code == 503:
            await asyncio.sleep(0.02)
