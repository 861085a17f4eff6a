"""An id for every request, for the logs of the client and of the server."""

from __future__ import annotations

import re
import uuid
from collections.abc import Mapping

from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

REQUEST_ID_HEADER = "X-Request-Id"

_VALID = re.compile(r"[!-~]{1,128}")  # visible ASCII: safe in a header and in a line of a log


class RequestIdMiddleware:
    """Answers with the client's own X-Request-Id, or with a new one where there is no valid one.

    Handlers find it as `request.state.request_id`.

    Args:
        further: another header with the same id, by the path of the routes that have it.
    """

    def __init__(self, app: ASGIApp, further: Mapping[str, str] = {}) -> None:
        self._app = app
        self._further = [
            (path, f"{path}/", name.lower().encode()) for path, name in further.items()
        ]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        theirs = Headers(scope=scope).get(REQUEST_ID_HEADER, "")
        request_id = theirs if _VALID.fullmatch(theirs) else new_request_id()
        scope.setdefault("state", {})["request_id"] = request_id
        value = request_id.encode()

        async def send_with_id(message: Message) -> None:
            if message["type"] == "http.response.start":
                path = scope["path"]  # of the route, as `PathMiddleware` has set it
                names = [
                    REQUEST_ID_HEADER.lower().encode(),
                    *(
                        n
                        for own, below, n in self._further
                        if path == own or path.startswith(below)
                    ),
                ]
                headers = [*message.get("headers", ()), *((name, value) for name in names)]
                message = {**message, "headers": headers}
            await send(message)

        await self._app(scope, receive, send_with_id)


def new_request_id() -> str:
    """An id for a request that brought none."""
    return uuid.uuid4().hex


def own_or_new_id(request: Request, own: str | None = None) -> str:
    """The id that the client gave in a header or in the body, or a new one."""
    if request.headers.get(REQUEST_ID_HEADER):
        from_header: str = request.state.request_id
        return from_header
    return own or new_request_id()
