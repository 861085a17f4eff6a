"""Responses: JSON bodies, and the outcomes of the pipeline."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec
from starlette.background import BackgroundTask
from starlette.responses import Response

from glmserve.api.answering.outcome import AnswerStream, WholeAnswer
from glmserve.api.http.event_stream import EventStreamResponse

_encode = msgspec.json.Encoder().encode


def json_response(
    body: object, status: int = 200, headers: Mapping[str, str] | None = None
) -> Response:
    """A response with this body, written by msgspec's fast encoder."""
    return Response(_encode(body), status, headers, media_type="application/json")


def answer_response(outcome: WholeAnswer | AnswerStream) -> Response:
    """The response that sends an answer."""
    if isinstance(outcome, AnswerStream):
        return EventStreamResponse(outcome)
    background = BackgroundTask(outcome.on_sent) if outcome.on_sent is not None else None
    response = Response(outcome.body, media_type=outcome.media_type, background=background)
    response.headers.update(outcome.headers)
    return response
