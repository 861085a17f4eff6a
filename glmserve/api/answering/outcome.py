"""What the pipeline gives: a whole answer, or a stream of events."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass, field

from glmserve.api.answering.endpoint import AnswerWriter
from glmserve.api.answering.response_cache import JSON, KeptAnswer, KeptEvents
from glmserve.api.journaling.event_id import EventId
from glmserve.api.journaling.journaled_answer import JournaledAnswer
from glmserve.errors import GlmserveError

_SKIPPED_BETWEEN_PAUSES = 64
"""Events that are written again for a client that has them, before other tasks get a turn."""

_MUCH = 2**16
"""Bytes of events that are enough for one write."""


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

    __slots__ = (
        "_client_has_id",
        "_further_choices",
        "_generation",
        "_has_begun",
        "_has_ids",
        "_journaled",
        "_kept",
        "_number",
        "_writer",
        "failure",
        "headers",
        "is_over",
    )

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
        self.is_over = False
        """Whether all events are taken."""
        self._writer = writer
        self._generation = writer.generation
        self._has_begun = False
        """Whether the opening is taken."""
        self._further_choices = self._generation.choices[1:]
        self._journaled = journaled
        self._kept = KeptEvents(keep) if keep is not None else None
        self._has_ids = has_ids
        self._number = 0
        """Of the newest event, from 1 on."""
        self._client_has_id = journaled is not None and journaled.skip > 0

    @property
    def has_failed(self) -> bool:
        """Whether the generation has failed."""
        return self._generation.has_failed

    @property
    def is_journaled(self) -> bool:
        """Whether a later connection may go on with the answer."""
        return self._journaled is not None

    @property
    def is_ready(self) -> bool:
        """Whether there is something to take."""
        return not self._has_begun or self._generation.is_ready

    async def wait(self) -> None:
        """Wait until there is something to take."""
        if self._has_begun:
            await self._generation.wait()

    def listen(self, listener: Callable[[], None] | None) -> None:
        """See AnswerTokens.listen."""
        self._generation.listen(listener)

    def take(self) -> list[bytes]:
        """The events that follow from the next portion of tokens, without ids.

        Never raises a GlmserveError: a failure becomes the last events.
        """
        try:
            if self._has_begun:
                events = self._writer.push(self._generation.take())
                if self._generation.is_complete:
                    self.is_over = True
                    events += self._writer.closing()
            else:
                self._has_begun = True
                events = [*self._writer.opening()]
        except GlmserveError as error:
            self.failure = error
            self.is_over = True
            return [*self._writer.failure(error)]
        if self._kept is not None:
            self._kept.add(events, is_end=self.is_over)
        return events

    def take_all(self) -> bytes:
        """The events of the next portion of each choice that has one, joined; less if it is much.

        Portions that remain are to be taken later: meanwhile other streams have their turn.
        """
        choices = self._further_choices if self._has_begun else self._generation.choices
        data = b"".join(self.take())
        for _ in choices:
            if self.is_over or len(data) >= _MUCH or not self.is_ready:
                break
            data += b"".join(self.take())
        return data

    async def events(self) -> AsyncIterator[bytes]:
        """The events one by one. With a journal they have ids, and those the client has are left
        out.

        Never raises a GlmserveError: a failure becomes the last events.
        """
        while not self.is_over:
            await self.wait()
            events = self.take()
            if self._journaled is None:
                for item in events:
                    yield item
                continue
            async for item in self._numbered(events, self._journaled):
                yield item
            if self._journaled.is_superseded:
                return

    def on_supersede(self, cancel: Callable[[], None]) -> None:
        """Have `cancel` called when a later connection goes on with the answer."""
        if self._journaled is not None:
            self._journaled.on_supersede(cancel)

    def close(self) -> None:
        """End the generation if it is not over, and leave the record to a later request."""
        self._generation.close()
        if self._journaled is not None:
            self._journaled.close()

    async def delivered(self) -> None:
        """Note that no later connection will go on with the answer, which has ended."""
        if self._journaled is not None and not self._generation.has_failed:
            await self._journaled.delivered()

    async def _numbered(
        self, events: Sequence[bytes], journaled: JournaledAnswer
    ) -> AsyncIterator[bytes]:
        """Events with ids, from the first one that the client lacks.

        An event gets its id once the journal has all that the event follows from.
        """
        for item in events:
            if self._generation.has_failed:
                yield item
                continue
            self._number += 1
            if self._number <= journaled.skip:
                if self._number % _SKIPPED_BETWEEN_PAUSES == 0:
                    await asyncio.sleep(0)
                continue
            event_id = await journaled.event_id(self._number)
            if journaled.is_superseded:
                return
            yield self._with_id(item, event_id)

    def _with_id(self, item: bytes, event_id: EventId | None) -> bytes:
        if not self._has_ids:
            return item
        if event_id is not None:
            self._client_has_id = True
            return b"id: %s\n" % str(event_id).encode() + item
        if self._client_has_id:
            self._client_has_id = False
            return b"id:\n" + item  # takes the last id back
        return item
