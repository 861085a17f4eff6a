"""What a handler finds in its request: the server, the caller, the client's connection."""

from __future__ import annotations

from starlette.requests import HTTPConnection, Request

from glmserve.api.answering.caller import ANONYMOUS, Caller
from glmserve.api.answering.context import ServerContext


def context_of(request: Request) -> ServerContext:
    """The server's context."""
    context: ServerContext = request.app.state.context
    return context


def caller_of(request: HTTPConnection) -> Caller:
    """The caller that `ApiKeyMiddleware` identified; ANONYMOUS if no keys are configured."""
    caller: Caller = getattr(request.state, "caller", ANONYMOUS)
    return caller


async def disconnected(request: Request) -> None:
    """Wait until the client has closed its connection."""
    while (await request.receive())["type"] != "http.disconnect":
        pass
