"""Finds the handler that writes a journaled answer now, and opens answers for a new handler."""

from __future__ import annotations

import logging

from glmserve.api.journaling.errors import (
    JournalUnavailableError,
    StreamGoneError,
    StreamTakenOverError,
)
from glmserve.api.journaling.event_id import EventId
from glmserve.api.journaling.journaled_answer import JournaledAnswer
from glmserve.journal import Claim, Entry, Journal, Record, StoreError

logger = logging.getLogger(__name__)


class AnswerRegistry:
    """The journaled answers of a server.

    Args:
        journal: where answers are recorded.
    """

    def __init__(self, journal: Journal) -> None:
        self.journal = journal
        self._live: dict[int, JournaledAnswer] = {}
        journal.on_taken = self._supersede

    def live(self, entry: Entry) -> JournaledAnswer | None:
        """The answer that is being written for this entry, if there is one."""
        return self._live.get(entry.id)

    def begin(self, entry: Entry, body: bytes) -> JournaledAnswer:
        """Record a new answer."""
        return self._open(entry, body, 0)

    async def find_stream(self, owner: str, stream_id: str) -> Entry | None:
        """The owner's entry with this stream id, or None.

        Raises:
            JournalUnavailableError: the journal cannot be read now.
        """
        try:
            return await self.journal.entries.find_stream(owner, stream_id)
        except StoreError as error:
            raise _unavailable(error) from error

    async def resume(
        self, entry: Entry, claim: Claim, last: EventId | None = None
    ) -> JournaledAnswer:
        """Go on with an answer, in place of the handler that writes it now.

        Args:
            last: the last event that the client has; None if it wants all events.

        Raises:
            StreamGoneError: the journal no longer has the answer, or not all of it.
            StreamTakenOverError: another connection resumed the answer meanwhile.
            EntryBusyError: another server answers it.
            JournalUnavailableError: the journal cannot be read now.
        """
        self._supersede(entry.id)
        answer = self._open(entry, None, last.number if last else 0)
        try:
            record = await self._take(entry, claim)
            if answer.is_superseded:
                raise StreamTakenOverError("another connection goes on with this answer")
            if record is None or (last is not None and last.num_deltas > len(record.deltas)):
                raise StreamGoneError("this answer is not in the journal any more; ask anew")
        except BaseException as error:
            answer.close(error)
            raise
        self.journal.resume(entry)
        answer.restore(record)
        return answer

    async def _take(self, entry: Entry, claim: Claim) -> Record | None:
        try:
            return await self.journal.take(entry, claim)
        except StoreError as error:
            raise _unavailable(error) from error

    def _supersede(self, number: int) -> None:
        if (answer := self._live.get(number)) is not None:
            answer.supersede()

    def _open(self, entry: Entry, body: bytes | None, skip: int) -> JournaledAnswer:
        answer = JournaledAnswer(self.journal, entry, body, skip, self._forget)
        self._live[entry.id] = answer
        return answer

    def _forget(self, answer: JournaledAnswer) -> None:
        if self._live.get(answer.entry.id) is answer:
            del self._live[answer.entry.id]


def _unavailable(error: StoreError) -> JournalUnavailableError:
    logger.warning("the journal cannot be read: %s", error)
    return JournalUnavailableError("the journal cannot be read now; ask again")
