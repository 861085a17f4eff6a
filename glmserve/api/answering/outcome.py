"""What the pipeline gives: a whole answer, or a stream of events."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field

from glmserve.api.answering.endpoint import AnswerWriter
from glmserve.api.answering.response_cache import (
    EVENT_STREAM,
    JSON,
    LONGEST_ANSWER,
    KeptAnswer,
)
from glmserve.api.answering.sse import DONE
from glmserve.api.journaling.journaled_answer import JournaledAnswer
from glmserve.errors import GlmserveError

_SKIPPED_BETWEEN_PAUSES = 64
"""Events that are written again for a client that has them, before other tasks get a turn."""


@dataclass
class WholeAnswer:
    """An answer in one piece."""

    body: bytes
    media_type: str = JSON
    headers: dict[str, str] = field(default_factory=dict)
    on_sent: Callable[[], Awaitable[None]] | None = None
    """Called when the client has it."""


class AnswerStream:
    """An answer as events, sent while it is generated. Must be closed on every path.

    Args:
        keep: called with all events once the stream has come to its own end; None: not kept.
        has_ids: events of a journaled answer have ids.
    """

    def __init__(
        self,
        writer: AnswerWriter,
        journaled: JournaledAnswer | None,
        keep: Callable[[KeptAnswer], None] | None,
        *,
        has_ids: bool = True,
    ) -> None:
        self.headers: dict[str, str] = {}
        self.failure: GlmserveError | None = None
        """Why the stream ended early; its last events say so, too."""
        self._writer = writer
        self._journaled = journaled
        self._keep = keep
        self._has_ids = has_ids

    @property
    def has_failed(self) -> bool:
        """Whether the generation has failed."""
        return self._writer.generation.has_failed

    @property
    def is_journaled(self) -> bool:
        """Whether a later connection may go on with the answer."""
        return self._journaled is not None

    def events(self) -> AsyncIterator[bytes]:
        """The events as bytes. With a journal they have ids, and those the client has are left out.

        Never raises a GlmserveError: a failure becomes the last events.
        """
        events = self._with_failure()
        if self._keep is not None:
            events = _kept(events, self._keep)
        return events if self._journaled is None else self._numbered(events, self._journaled)

    def on_supersede(self, cancel: Callable[[], None]) -> None:
        """Have `cancel` called when a later connection goes on with the answer."""
        if self._journaled is not None:
            self._journaled.on_supersede(cancel)

    def close(self) -> None:
        """End the generation if it is not over, and leave the record to a later request."""
        self._writer.generation.close()
        if self._journaled is not None:
            self._journaled.close()

    async def delivered(self) -> None:
        """Note that no later connection will go on with the answer, which has ended."""
        if self._journaled is not None and not self._writer.generation.has_failed:
            await self._journaled.delivered()

    async def _with_failure(self) -> AsyncIterator[bytes]:
        try:
            async for item in self._writer.events():
                yield item
        except GlmserveError as error:
            self.failure = error
            for item in self._writer.failure(error):
                yield item

    async def _numbered(
        self, events: AsyncIterator[bytes], journaled: JournaledAnswer
    ) -> AsyncIterator[bytes]:
        """Events with ids, from the first one that the client lacks.

        An event gets its id once the journal has all that the event follows from.
        """
        number, has_id = 0, journaled.skip > 0
        async for item in events:
            if self._writer.generation.has_failed:
                yield item
                continue
            number += 1
            if number <= journaled.skip:
                if number % _SKIPPED_BETWEEN_PAUSES == 0:
                    await asyncio.sleep(0)
                continue
            event_id = await journaled.event_id(number)
            if journaled.is_superseded:
                return
            if not self._has_ids:
                yield item
            elif event_id is not None:
                has_id = True
                yield b"id: %s\n" % str(event_id).encode() + item
            elif has_id:
                has_id = False
                yield b"id:\n" + item  # takes the last id back
            else:
                yield item


async def _kept(
    events: AsyncIterator[bytes], keep: Callable[[KeptAnswer], None]
) -> AsyncIterator[bytes]:
    sent, size, item = list[bytes](), 0, b""
    async for item in events:
        size += len(item)
        if size <= LONGEST_ANSWER:
            sent.append(item)
        else:
            sent.clear()  # it will not be kept
        yield item
    if size <= LONGEST_ANSWER and item == DONE:  # after a failure it is not
        keep(KeptAnswer(b"".join(sent), EVENT_STREAM))
