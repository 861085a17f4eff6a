"""Answers the request of one line as the API of its path does, without HTTP."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, NamedTuple

from glmserve.api.answering.caller import Caller
from glmserve.api.answering.context import ServerContext
from glmserve.api.answering.endpoint import AnswerRequest, Endpoint
from glmserve.api.answering.failure import Failure, failure_of, openai_error
from glmserve.api.answering.outcome import WholeAnswer
from glmserve.api.answering.pipeline import answer
from glmserve.api.openai.responses.protocol import ResponsesRequest
from glmserve.api.protocol import parse_large_request
from glmserve.errors import (
    EngineDeadError,
    GlmserveError,
    InvalidRequestError,
    NotReadyError,
    QueueFullError,
)

OK = 200


class LineAnswer(NamedTuple):
    """What a client of the line's path would have got."""

    status: int
    """HTTP's."""
    body: bytes
    """JSON."""


def _failed(failure: Failure) -> LineAnswer:
    told = json.dumps(openai_error(failure), ensure_ascii=False, separators=(",", ":"))
    return LineAnswer(failure.status, told.encode("utf-8", "replace"))


INTERNAL_ERROR = _failed(Failure(500, "internal error", "server_error"))


class TryAgainError(Exception):
    """The line cannot be answered now, and may be later."""


async def answer_line(
    server: ServerContext,
    endpoints: Mapping[str, Endpoint[Any]],
    url: str,
    body: bytes,
    caller: Caller,
    *,
    in_background: bool,
) -> LineAnswer:
    """Answer a line's request.

    Args:
        endpoints: by their paths.
        url: path of the API that answers, one of `batches.lines.ENDPOINTS`.
        in_background: see AnswerContext.

    Raises:
        TryAgainError: the server is not ready, or is shutting down.
    """
    try:
        request = await _request(server, endpoints[url], body, caller)
        outcome = await answer(server, replace(request, in_background=in_background))
        assert isinstance(outcome, WholeAnswer)  # as no stream was asked for
        return LineAnswer(OK, outcome.body)
    except (NotReadyError, QueueFullError, EngineDeadError) as error:
        raise TryAgainError(error.message) from None
    except GlmserveError as error:
        return _failed(failure_of(error))


async def _request(
    server: ServerContext, endpoint: Endpoint[Any], body: bytes, caller: Caller
) -> AnswerRequest:
    parsed = await parse_large_request(endpoint.request_type, body, server.unknown_fields)
    _check_whole(parsed)
    return AnswerRequest(endpoint, parsed, b"", caller, is_recorded=False)


def _check_whole(parsed: Any) -> None:
    """Refuse what makes no whole answer; do not store responses that do not ask for it.

    Raises:
        InvalidRequestError: names the field.
    """
    if parsed.stream:
        raise InvalidRequestError(
            "stream: a line of a batch is answered whole; leave it out", "stream"
        )
    if isinstance(parsed, ResponsesRequest):
        if parsed.background:
            raise InvalidRequestError(
                "background: a line of a batch is answered in the background already; leave it out",
                "background",
            )
        if parsed.store is None:  # a batch would push out those of all others
            parsed.store = False
