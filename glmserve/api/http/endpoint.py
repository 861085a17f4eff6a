"""The HTTP handler of every API that answers with generated text."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from glmserve.api.answering.context import ServerContext
from glmserve.api.answering.endpoint import AnswerRequest, AnswerWriter, Endpoint
from glmserve.api.answering.pipeline import answer
from glmserve.api.answering.record_or_resume import IDEMPOTENCY_KEY, LAST_EVENT_ID
from glmserve.api.http.access import note_generation
from glmserve.api.http.body import read_request
from glmserve.api.http.responses import answer_response
from glmserve.api.http.state import caller_of, disconnected


def answering(
    endpoint: Endpoint[Any], server: ServerContext
) -> Callable[[Request], Awaitable[Response]]:
    """The handler for POST requests of this endpoint."""

    async def handle(request: Request) -> Response:
        wanted = await read_answer_request(request, endpoint, server)
        return answer_response(await answer(server, wanted))

    handle.__name__ = type(endpoint).__name__  # named in the log if it fails
    return handle


async def read_answer_request(
    request: Request, endpoint: Endpoint[Any], server: ServerContext
) -> AnswerRequest:
    """The request for the pipeline.

    Raises:
        GlmserveError: the body is not a request of this endpoint.
    """
    parsed, body = await read_request(request, endpoint.request_type)

    def on_start(writer: AnswerWriter, headers: Mapping[str, str]) -> None:
        note_generation(request.scope, writer.generation)

    return AnswerRequest(
        endpoint,
        parsed,
        body if server.answers is not None else b"",
        caller_of(request),
        partial(disconnected, request),
        request.headers.get(LAST_EVENT_ID),
        request.headers.get(IDEMPOTENCY_KEY),
        on_start,
    )
