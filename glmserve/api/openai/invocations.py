"""POST /invocations, the one path on which SageMaker sends requests of every kind."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from glmserve.api.http.body import read_whole
from glmserve.errors import InvalidRequestError

Handler = Callable[[Request], Awaitable[Response]]

_decode = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode


def invocations(chat: Handler, completions: Handler, embeddings: Handler) -> Handler:
    """The handler that finds the handler of a request by a field that only its requests have."""
    handlers = {"messages": chat, "prompt": completions, "input": embeddings}

    async def handle(request: Request) -> Response:
        body, again = await read_whole(request)
        try:
            fields = _decode(body)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return await chat(again)  # says what is wrong
        for name, handler in handlers.items():
            if name in fields:
                return await handler(again)
        raise InvalidRequestError(
            "the request must have messages (a chat completion), prompt (a completion) or input "
            "(embeddings)"
        )

    return handle
