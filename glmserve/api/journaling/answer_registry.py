"""Finds the handler that writes a journaled answer now, and opens answers for a new handler."""

from __future__ import annotations

from glmserve.api.journaling.errors import StreamGoneError, StreamTakenOverError
from glmserve.api.journaling.event_id import EventId
from glmserve.api.journaling.journaled_answer import JournaledAnswer
from glmserve.journal import Entry, Journal


class AnswerRegistry:
    """The journaled answers of a server.

    Args:
        journal: where answers are recorded.
    """

    def __init__(self, journal: Journal) -> None:
        self.journal = journal
        self._live: dict[int, JournaledAnswer] = {}

    def live(self, entry: Entry) -> JournaledAnswer | None:
        """The answer that is being written for this entry, if there is one."""
        return self._live.get(entry.id)

    def begin(self, entry: Entry, body: bytes) -> JournaledAnswer:
        """Record a new answer."""
        return self._open(entry, body, 0)

    async def resume(self, entry: Entry, last: EventId | None = None) -> JournaledAnswer:
        """Go on with an answer, in place of the handler that writes it now.

        Args:
            last: the last event that the client has; None if it wants all events.

        Raises:
            StreamGoneError: the journal no longer has the answer, or not all of it.
            StreamTakenOverError: another connection resumed the answer meanwhile.
        """
        if (before := self.live(entry)) is not None:
            before.supersede()
        answer = self._open(entry, None, last.number if last else 0)
        try:
            record = await self.journal.load(entry)
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

    def _open(self, entry: Entry, body: bytes | None, skip: int) -> JournaledAnswer:
        answer = JournaledAnswer(self.journal, entry, body, skip, self._forget)
        self._live[entry.id] = answer
        return answer

    def _forget(self, answer: JournaledAnswer) -> None:
        if self._live.get(answer.entry.id) is answer:
            del self._live[answer.entry.id]
