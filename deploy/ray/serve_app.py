"""glmserve on a Ray cluster: servers as replicas, behind an entry that knows their caches.

serve run --working-dir deploy/ray deploy/ray/config.yaml

Ray Serve starts, checks, scales and replaces the replicas. Each is one `glmserve serve`. The entry
passes bytes through, and gives each request its session (prefix.py); Ray's ConsistentHashRouter
sends a session to one replica.
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any

from prefix import session_of
from pydantic import BaseModel
from ray import serve
from ray.exceptions import RayError
from ray.serve.handle import DeploymentHandle
from server import Asked, Head, Server
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse

_TRIES = 3
"""A request that no replica has begun to answer is sent to another one, when its own has died."""

_ADDED_BY_RAY = frozenset(("x-request-id", "date", "server"))
"""Headers of answers. Ray gives the request's id to the server as well, so both have the same."""


class Arguments(BaseModel, extra="forbid"):
    """`args` of the application in config.yaml."""

    options: list[str] = []
    """Options of `glmserve serve`."""
    max_body_size: int = 8_000_000
    """Bytes of a request that the entry reads: not less than the servers' `--max-body-size`."""


@serve.deployment
class Replica:
    """One server."""

    async def __init__(self, options: list[str]) -> None:
        self._server = Server(options)
        await self._server.start()
        self._watch = asyncio.create_task(self._end_with_server())

    async def _end_with_server(self) -> None:
        """End this process when the server dies: Ray Serve then sends no more requests here."""
        code = await self._server.ended()
        print(f"glmserve ended with {code}", file=sys.stderr, flush=True)
        os._exit(1)

    async def check_health(self) -> None:
        """Ray Serve replaces a replica that raises here."""
        await self._server.check()

    async def answer(self, asked: Asked) -> AsyncIterator[Head | bytes]:
        """The head of the server's answer, then its body in parts."""
        async with aclosing(self._server.ask(asked)) as parts:
            async for part in parts:
                yield part

    async def __del__(self) -> None:
        """Ray Serve awaits this once the replica's requests have ended."""
        self._watch.cancel()
        await self._server.stop()


@serve.deployment
class Entry:
    """Where requests of clients come in."""

    def __init__(self, replicas: DeploymentHandle, max_body_size: int) -> None:
        self._replicas = replicas.options(method_name="answer", stream=True)
        self._max_body_size = max_body_size

    async def __call__(self, request: Request) -> Response:
        """The answer of one replica."""
        body = bytearray()
        async for part in request.stream():
            body += part
            if len(body) > self._max_body_size:
                return _error(413, f"the body has more than {self._max_body_size} bytes")
        target = request.url.path + (f"?{request.url.query}" if request.url.query else "")
        asked = Asked(request.method, target, request.headers.items(), bytes(body))
        return await self._answer(asked, session_of(request.headers, asked.body))

    async def _answer(self, asked: Asked, session: str) -> Response:
        replicas = self._replicas.options(session_id=session)
        for _ in range(_TRIES):
            parts = replicas.remote(asked)
            try:
                head = await anext(parts)
            except RayError:
                continue
            response = StreamingResponse(parts, head.status)
            response.raw_headers = [
                (name.encode("latin-1"), value.encode("latin-1"))
                for name, value in head.headers
                if name.lower() not in _ADDED_BY_RAY
            ]
            return response
        return _error(503, "no replica could answer; ask again")


def _error(status: int, message: str) -> Response:
    kind = "invalid_request_error" if status < 500 else "server_error"
    headers = {"Retry-After": "1"} if status == 503 else None
    return JSONResponse({"error": {"message": message, "type": kind}}, status, headers)


def build(values: dict[str, Any]) -> serve.Application:
    """The application of config.yaml, whose `args` are the values."""
    arguments = Arguments.model_validate(values)
    return Entry.bind(Replica.bind(arguments.options), arguments.max_body_size)
