"""Requests of the Python API to its server: one, a stream, or many."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sized
from contextlib import closing
from typing import Any, TypeVar

import msgspec

from glmserve.api.answering.outcome import AnswerStream, WholeAnswer
from glmserve.api.answering.sse import DONE
from glmserve.embedded.many import Progress, answer_all
from glmserve.embedded.server import EmbeddedServer
from glmserve.errors import QueueFullError, QueueTimeoutError

CHAT, COMPLETIONS, EMBEDDINGS = "/v1/chat/completions", "/v1/completions", "/v1/embeddings"

Item = TypeVar("Item")
Result = TypeVar("Result")


class Calls:
    """Sends requests, and reads answers into dataclasses.

    Args:
        queue_size: requests that may wait; 0: no limit.
        progress: show bars of lists; None: on a terminal or in a notebook.
    """

    def __init__(self, server: EmbeddedServer, queue_size: int, progress: bool | None) -> None:
        self.server = server
        self._progress = progress
        running = server.context.engine.info.limits.max_sequences
        # As many wait as run, so that none that ends leaves its place empty.
        self._at_a_time = running + min(queue_size or running, running)

    async def whole(self, path: str, body: dict[str, Any], kind: type[Result]) -> Result:
        """The answer to a request.

        Args:
            kind: a dataclass with fields of the answer's JSON.
        """
        answer = await self._answer(path, body)
        assert isinstance(answer, WholeAnswer)  # `stream` is no field that a call sets
        return msgspec.json.decode(answer.body, type=kind)

    async def stream(
        self, path: str, body: dict[str, Any], kind: type[Result]
    ) -> AsyncIterator[Result]:
        """The events of an answer, with the counts of tokens at the end."""
        options = {"stream": True, "stream_options": {"include_usage": True}}
        answer = await self._answer(path, {**body, **options})
        assert isinstance(answer, AnswerStream)
        with closing(answer):
            async for event in answer.events():
                if event == DONE or answer.failure is not None:
                    break
                yield msgspec.json.decode(event.removeprefix(b"data: "), type=kind)
            if answer.failure is not None:
                raise answer.failure

    async def many(
        self,
        given: Iterable[Any],
        items: Iterable[Item],
        answer: Callable[[Item], Awaitable[Result]],
        num_choices: int,
        progress: bool | None,
    ) -> list[Result]:
        """Answers in the order of the items; see `answer_all`.

        Args:
            given: what the caller has given, of which there are as many.
            num_choices: of each request.
        """
        total = len(given) if isinstance(given, Sized) else None
        shown = self._progress if progress is None else progress
        at_a_time = max(1, self._at_a_time // num_choices)
        return await answer_all(items, answer, at_a_time, Progress(total, shown))

    async def _answer(self, path: str, body: dict[str, Any]) -> WholeAnswer | AnswerStream:
        """Answer a request; one that finds the queue full, or waits long, is sent again.

        A request without a seed gets the server's next one here, so that the requests of a list get
        theirs in the order of the list.
        """
        if path != EMBEDDINGS and body.get("seed") is None:
            body = {**body, "seed": next(self.server.context.seeds)}
        while True:
            try:
                return await self.server.answer(path, body)
            except (QueueFullError, QueueTimeoutError) as error:
                await asyncio.sleep(error.retry_after or 0)
