"""Request ids and failures below /v1/messages as Anthropic's, whoever has found them."""

from __future__ import annotations

import msgspec
from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from glmserve.api.anthropic.objects import AnthropicError, AnthropicErrorDetail

PATH = "/v1/messages"

_TYPES = {
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    503: "overloaded_error",
    529: "overloaded_error",
}


def error_of(status: int, message: str, request_id: str | None = None) -> AnthropicError:
    """The object that tells a client about a failure with this status."""
    kind = _TYPES.get(status, "invalid_request_error" if status < 500 else "api_error")
    return AnthropicError(AnthropicErrorDetail(kind, message), request_id)


class AnthropicErrorsMiddleware:
    """Writes errors anew that come in OpenAI's shape: a missing key, a bug, a wrong method.

    They are responses of one piece; it is not for streams. Every response gets the header that the
    anthropic SDK reads request ids from.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or not _is_ours(scope["path"]):
            await self._app(scope, receive, send)
            return
        start: Message | None = None

        async def send_in_shape(message: Message) -> None:
            nonlocal start
            if message["type"] == "http.response.start":
                message = {**message, "headers": [*message.get("headers", ()), *_request_id(scope)]}
                if message["status"] >= 400:
                    start = message
                    return
            if start is not None:
                message = {**message, "body": _rewritten(message["body"], start, scope)}
                await send(start)
                start = None
            await send(message)

        await self._app(scope, receive, send_in_shape)


def _is_ours(path: str) -> bool:
    return path == PATH or path.startswith(PATH + "/")


def _request_id(scope: Scope) -> list[tuple[bytes, bytes]]:
    request_id = scope.get("state", {}).get("request_id")
    return [(b"request-id", request_id.encode())] if request_id else []


def _rewritten(body: bytes, start: Message, scope: Scope) -> bytes:
    """The body in Anthropic's shape; `start` gets its length."""
    if not body:  # nobody is there to read it
        return body
    message = msgspec.json.decode(body)["error"]["message"]
    request_id = scope.get("state", {}).get("request_id")
    rewritten = msgspec.json.encode(error_of(start["status"], message, request_id))
    MutableHeaders(scope=start)["content-length"] = str(len(rewritten))
    return rewritten
