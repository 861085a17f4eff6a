"""Streams of an application in this process, read event by event."""

from __future__ import annotations

import asyncio
import json
import re
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from starlette.applications import Starlette
from starlette.types import Message

_EVENT = re.compile(rb".+?(?:\n\n|\Z)", re.DOTALL)


class OpenStream:
    """A response that is being read. A client that does not ask for events does not get them."""

    def __init__(self) -> None:
        self.status = 0
        self.headers: dict[str, str] = {}
        self._events: deque[bytes] = deque()
        """Events of pieces that were read."""
        self._pieces: asyncio.Queue[bytes | None] = asyncio.Queue()
        self._wanted = asyncio.Semaphore(0)
        self._left = asyncio.Event()

    async def event(self) -> bytes | None:
        """The next event as it came, which no comment of a silent stream is; None at the end."""
        while not self._events:
            self._wanted.release()
            piece = await self._pieces.get()
            if piece is None:
                return None
            self._events += [e for e in _EVENT.findall(piece) if not e.startswith(b": ")]
        return self._events.popleft()

    async def rest(self) -> list[bytes]:
        """All events until the end."""
        events = []
        while (event := await self.event()) is not None:
            events.append(event)
        return events

    def leave(self) -> None:
        """Close the connection."""
        self._left.set()

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            self.headers = {k.decode(): v.decode() for k, v in message["headers"]}
        elif message["body"]:
            await self._wanted.acquire()
            self._pieces.put_nowait(message["body"])

    async def run(self, app: Starlette, scope: dict[str, Any], body: bytes) -> None:
        pieces = [body]

        async def receive() -> Message:
            if pieces:
                return {"type": "http.request", "body": pieces.pop(), "more_body": False}
            await self._left.wait()
            return {"type": "http.disconnect"}

        try:
            await app(scope, receive, self.send)
        finally:
            self._pieces.put_nowait(None)


@asynccontextmanager
async def open_stream(
    app: Starlette, path: str, body: dict[str, Any], headers: dict[str, str] | None = None
) -> AsyncIterator[OpenStream]:
    """Post the body; whoever leaves this block has left the server, too."""
    stream = OpenStream()
    named = {"content-type": "application/json", **(headers or {})}
    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": "POST",
        "scheme": "http",
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "root_path": "",
        "headers": [(k.lower().encode(), v.encode()) for k, v in named.items()],
        "client": ("test", 1),
        "server": ("test", 80),
    }
    running = asyncio.create_task(stream.run(app, scope, json.dumps(body).encode()))
    try:
        yield stream
    finally:
        stream.leave()
        stream._wanted.release()
        await running


def id_of(event: bytes) -> str:
    """The id of an event."""
    first = event.split(b"\n")[0]
    assert first.startswith(b"id: "), event
    return first[4:].decode()


def data_of(event: bytes) -> Any:
    """The payload of an event."""
    (line,) = (line for line in event.split(b"\n") if line.startswith(b"data: "))
    return line[6:].decode() if line == b"data: [DONE]" else json.loads(line[6:])


def texts_of(events: list[bytes]) -> dict[Any, str]:
    """What a stream of any API says, by choice or item, less ids and how it is cut into events."""
    texts: dict[Any, str] = {}

    def add(key: Any, text: Any) -> None:
        texts[key] = texts.get(key, "") + (text if isinstance(text, str) else json.dumps(text))

    for data in map(data_of, events):
        if isinstance(data, str):
            add("done", data)
            continue
        assert "error" not in data, data
        for choice in data.get("choices", ()):
            _add_choice(choice, add)
        if "delta" in data:
            delta = data["delta"]
            parts = {"text": delta} if isinstance(delta, str) else delta
            for name, part in parts.items():
                if name == "type":
                    continue
                add((data.get("output_index", data.get("index")), name), part)
    return texts


def _add_choice(choice: dict[str, Any], add: Any) -> None:
    index = choice["index"]
    add((index, "text"), choice.get("text", ""))
    add((index, "ids"), "".join(map(chr, choice.get("token_ids") or ())))
    add((index, "end"), choice["finish_reason"] or "")
    logprobs = choice.get("logprobs") or {}
    scored = logprobs.get("tokens") or [one["token"] for one in logprobs.get("content") or ()]
    add((index, "scored"), "|".join(["", *scored]))
    delta = choice.get("delta", {})
    add((index, "content"), delta.get("content") or "")
    for call in delta.get("tool_calls", ()):
        add((index, "call", call["index"]), call["function"].get("name") or "")
        add((index, "call", call["index"]), call["function"]["arguments"])
