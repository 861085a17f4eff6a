"""What the last server had accepted and not finished."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import Message

from glmserve.api.caller import Caller
from glmserve.api.journaling.errors import StreamTakenOverError
from glmserve.api.journaling.recorder import AnswerRecorder
from glmserve.api.journaling.through import UNFINISHED
from glmserve.config import DEFAULT_TENANT
from glmserve.errors import EngineDeadError, GlmserveError, NotReadyError, QueueFullError
from glmserve.journal import Entry, Phase

logger = logging.getLogger(__name__)

_AT_ONCE = 32
_PAUSE = 1.0  # seconds, while nothing is accepted


async def finish_unfinished(app: Starlette) -> None:
    """Answer requests whose clients were waiting for a whole answer, beside the new ones."""
    recorder: AnswerRecorder | None = app.state.context.recorder
    if recorder is None:
        return
    places = asyncio.Semaphore(_AT_ONCE)

    async def finish(entry: Entry) -> None:
        async with places:
            while True:
                if await _finish(app, recorder, entry):
                    return
                await asyncio.sleep(_PAUSE)

    await asyncio.gather(*map(finish, recorder.journal.unfinished))


async def _finish(app: Starlette, recorder: AnswerRecorder, entry: Entry) -> bool:
    """Answer one request; False if it has to be tried again."""
    if entry not in recorder.journal.index or entry.phase is not Phase.RUNNING:
        return True
    body = await recorder.journal.attempt(entry)
    if body is None:
        return True
    try:
        await _endpoint_of(app, entry)(_request(app, entry, body))
    except (QueueFullError, NotReadyError):
        return False
    except (EngineDeadError, StreamTakenOverError):
        return True
    except GlmserveError as error:
        logger.warning("a request of the last server's cannot be finished: %s", error)
        return True
    except Exception:  # a bug; the others are to be finished all the same
        logger.exception("a request of the last server's cannot be finished")
        return True
    recorder.journal.metrics.finished += 1
    return True


def _endpoint_of(app: Starlette, entry: Entry) -> Callable[[Request], Awaitable[Response]]:
    (endpoint,) = (
        route.endpoint
        for route in app.routes
        if isinstance(route, Route) and route.path == entry.path and "POST" in (route.methods or ())
    )
    return endpoint


def _request(app: Starlette, entry: Entry, body: bytes) -> Request:
    """The request as it came, from a client that never leaves."""
    pieces = [body]

    async def receive() -> Message:
        if not pieces:
            await asyncio.Event().wait()
        return {"type": "http.request", "body": pieces.pop(), "more_body": False}

    scope = {
        "type": "http",
        "method": "POST",
        "path": entry.path,
        "query_string": b"",
        "headers": [],
        "app": app,
        "state": {UNFINISHED: entry, "caller": Caller(entry.owner or None, DEFAULT_TENANT)},
    }
    return Request(scope, receive)
