"""POST /invocations, the one path on which SageMaker sends requests of every kind."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from glmserve.api.http.body import read_whole
from glmserve.api.openai.chat import ChatEndpoint
from glmserve.api.openai.completions import CompletionsEndpoint
from glmserve.api.openai.embeddings import EmbeddingsEndpoint
from glmserve.errors import InvalidRequestError

Handler = Callable[[Request], Awaitable[Response]]

_decode = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode


_PATHS = {
    "messages": ChatEndpoint.path,
    "prompt": CompletionsEndpoint.path,
    "input": EmbeddingsEndpoint.path,
}
"""Each kind of request by a field that only it has."""


def invocations(handlers: Mapping[str, Handler]) -> Handler:
    """The handler that finds the handler of a request by its fields.

    Args:
        handlers: by path.
    """

    async def handle(request: Request) -> Response:
        body, again = await read_whole(request)
        try:
            fields = _decode(body)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return await handlers[ChatEndpoint.path](again)  # says what is wrong
        for name, path in _PATHS.items():
            if name in fields:
                return await handlers[path](again)
        raise InvalidRequestError(
            "the request must have messages (a chat completion), prompt (a completion) or input "
            "(embeddings)"
        )

    return handle
