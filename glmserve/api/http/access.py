"""One record for each request that has been answered: for counters and for the access log."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from starlette.routing import BaseRoute, Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from glmserve.api.answering.caller import ANONYMOUS, Caller
from glmserve.api.answering.generation import Generation

_STATE = "access"
UNKNOWN_ROUTE = "other"
"""The route of paths that the server does not have: a record never holds what a client wrote."""
NO_STATUS = 0
"""The status of a request that was not answered, because its client left."""


@dataclass
class AccessRecord:
    """One answered request. It holds nothing of the request's or the answer's content."""

    method: str
    began: float
    """Unix seconds."""
    start: float
    """time.perf_counter() when the request's head had come."""
    route: str = UNKNOWN_ROUTE
    """The path as the server's table of routes has it, such as /v1/responses/{response_id}."""
    status: int = NO_STATUS
    seconds: float = 0.0
    """From the request's head to the end of the answer."""
    request_id: str = ""
    tenant: str = ""
    """Name of the API key; empty without keys."""
    generation: Generation | None = None
    """Of an answer with generated text."""


AccessObserver = Callable[[AccessRecord], None]


class AccessMiddleware:
    """Makes a record of each HTTP request, and gives it to the observers when the answer has ended.

    Args:
        observers: called with each record.
    """

    def __init__(self, app: ASGIApp, observers: Sequence[AccessObserver]) -> None:
        self._app = app
        self._observers = observers
        self._routes = Routes()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        record = AccessRecord(scope["method"], time.time(), time.perf_counter())
        scope.setdefault("state", {})[_STATE] = record

        async def watched_send(message: Message) -> None:
            if message["type"] == "http.response.start":
                record.status = message["status"]
            await send(message)

        try:
            await self._app(scope, receive, watched_send)
        finally:
            self._complete(record, scope)
            for observe in self._observers:
                observe(record)

    def _complete(self, record: AccessRecord, scope: Scope) -> None:
        state: Mapping[str, Any] = scope["state"]
        caller: Caller = state.get("caller", ANONYMOUS)
        record.seconds = time.perf_counter() - record.start
        record.tenant = caller.tenant.name
        record.request_id = state.get("request_id", "")
        record.route = self._routes.route_of(scope)


class Routes:
    """The application's paths, read once."""

    def __init__(self) -> None:
        self._plain: frozenset[str] = frozenset()
        """Paths without parameters."""
        self._by_endpoint: dict[object, str] = {}
        """Paths with parameters."""

    def route_of(self, scope: Scope) -> str:
        """The path of the request's route, whether or not a handler was reached."""
        if not self._plain:
            self._read(scope["app"].routes)
        path: str = scope["path"]
        if path in self._plain:
            return path
        return self._by_endpoint.get(scope.get("endpoint"), UNKNOWN_ROUTE)

    def _read(self, routes: Sequence[BaseRoute]) -> None:
        found = [route for route in routes if isinstance(route, Route)]
        self._plain = frozenset(route.path for route in found if not route.param_convertors)
        self._by_endpoint = {r.endpoint: r.path for r in found if r.param_convertors}


def record_of(scope: Scope) -> AccessRecord | None:
    """The record of this request; None outside `AccessMiddleware`."""
    record: AccessRecord | None = scope.get("state", {}).get(_STATE)
    return record


def note_generation(scope: Scope, generation: Generation) -> None:
    """Have the record of this request tell of the text that is generated for it."""
    record = record_of(scope)
    if record is not None:
        record.generation = generation
