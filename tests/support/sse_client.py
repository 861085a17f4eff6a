"""A client of streams as browsers have it: it comes back with the last id it has seen."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass, field
from typing import Any

import httpx

_PAUSE = 0.05  # seconds


@dataclass
class SseClient:
    """Reads one stream to its end, however many connections and servers that takes."""

    path: str
    body: dict[str, Any]
    events: list[bytes] = field(default_factory=list)
    """As they came, with their ids."""
    last_id: str = ""
    connections: int = 0

    async def read(self, client: httpx.AsyncClient) -> SseClient:
        while not self.is_over:
            try:
                await self._connect(client)
            except httpx.TransportError:
                await asyncio.sleep(_PAUSE)
        return self

    @property
    def is_over(self) -> bool:
        ends = (b"[DONE]", b"event: message_stop", b"event: response.completed", b"response.incom")
        return bool(self.events) and any(end in self.events[-1] for end in ends)

    async def _connect(self, client: httpx.AsyncClient) -> None:
        headers = {"Content-Type": "application/json"}
        if self.last_id:
            headers["Last-Event-ID"] = self.last_id
        content = json.dumps(self.body).encode()
        async with client.stream("POST", self.path, content=content, headers=headers) as response:
            if response.status_code == 503:
                await asyncio.sleep(_PAUSE)
                return
            if response.status_code != 200:
                text = (await response.aread()).decode()
                raise AssertionError(f"{response.status_code}: {text}")
            self.connections += 1
            rest = b""
            async for piece in response.aiter_raw():
                *blocks, rest = (rest + piece).split(b"\n\n")
                for block in blocks:
                    self._take(block + b"\n\n")

    def _take(self, event: bytes) -> None:
        if event.startswith(b":"):  # a comment
            return
        first = event.split(b"\n")[0]
        if first.startswith(b"id:"):
            self.last_id = first[3:].strip().decode()
        elif self.last_id:  # an error of the server's: no part of the stream
            return
        self.events.append(event)
