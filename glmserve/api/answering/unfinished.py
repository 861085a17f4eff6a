"""Finishes the whole answers that another server accepted and did not finish."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from typing import Any

from glmserve.api.answering.caller import Caller
from glmserve.api.answering.context import ServerContext
from glmserve.api.answering.endpoint import AnswerRequest, Endpoint
from glmserve.api.answering.pipeline import answer
from glmserve.api.journaling.answer_registry import AnswerRegistry
from glmserve.api.journaling.errors import StreamTakenOverError
from glmserve.api.protocol import parse_large_request
from glmserve.config import DEFAULT_TENANT
from glmserve.errors import EngineDeadError, GlmserveError, NotReadyError, QueueFullError
from glmserve.journal import Entry, EntryBusyError, Phase

logger = logging.getLogger(__name__)

_AT_ONCE = 32
_PAUSE = 1.0  # seconds, while nothing is accepted


async def finish_unfinished(server: ServerContext, endpoints: Mapping[str, Endpoint[Any]]) -> None:
    """Answer the requests of clients that waited for a whole answer, beside the new requests.

    With a journal of several servers, this waits for requests of those that end.

    Args:
        endpoints: by their paths.
    """
    registry = server.answers
    if registry is None:
        return
    slots = asyncio.Semaphore(_AT_ONCE)

    async def finish(entry: Entry) -> None:
        async with slots:
            while True:
                if await _finish(server, registry, endpoints.get(entry.path), entry):
                    return
                await asyncio.sleep(_PAUSE)

    async with asyncio.TaskGroup() as group:
        while entries := await registry.journal.entries.next_unfinished():
            for entry in entries:
                group.create_task(finish(entry))


async def _finish(
    server: ServerContext, registry: AnswerRegistry, endpoint: Endpoint[Any] | None, entry: Entry
) -> bool:
    """Answer one request; False if it has to be tried again."""
    if endpoint is None:
        logger.warning("a request of another server's cannot be finished: no %s here", entry.path)
        return True
    if entry not in registry.journal.index or entry.phase is not Phase.RUNNING:
        return True
    body = await registry.journal.attempt(entry)
    if body is None:
        return True
    try:
        await answer(server, await _request(server, endpoint, entry, body))
    except (QueueFullError, NotReadyError):
        registry.journal.take_back_attempt(entry)
        return False
    except (EngineDeadError, StreamTakenOverError, EntryBusyError):
        return True
    except GlmserveError as error:
        logger.warning("a request of another server's cannot be finished: %s", error)
        return True
    except Exception:  # a bug; the other requests are to be finished all the same
        logger.exception("a request of another server's cannot be finished")
        return True
    registry.journal.metrics.finished += 1
    return True


async def _request(
    server: ServerContext, endpoint: Endpoint[Any], entry: Entry, body: bytes
) -> AnswerRequest:
    """The request as it came, from a client that never leaves."""
    parsed = await parse_large_request(endpoint.request_type, body, server.unknown_fields)
    parsed.stream = False  # one in the background may have been streamed, too
    caller = Caller(entry.owner or None, DEFAULT_TENANT)
    return AnswerRequest(endpoint, parsed, body, caller, unfinished=entry)
