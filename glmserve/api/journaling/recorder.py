"""The answers that are being written, and how to get at those that are not any more."""

from __future__ import annotations

from glmserve.api.journaling.errors import StreamGoneError, StreamTakenOverError
from glmserve.api.journaling.event_id import EventId
from glmserve.api.journaling.recording import Recording
from glmserve.journal import Entry, Journal


class AnswerRecorder:
    """One for a server.

    Args:
        journal: where to.
    """

    def __init__(self, journal: Journal) -> None:
        self.journal = journal
        self._live: dict[int, Recording] = {}

    def live(self, entry: Entry) -> Recording | None:
        """The handler that answers it now, if there is one."""
        return self._live.get(entry.id)

    def begin(self, entry: Entry, body: bytes) -> Recording:
        """Record a new answer."""
        return self._open(entry, body, 0)

    async def resume(self, entry: Entry, last: EventId | None = None) -> Recording:
        """Go on with an answer, in place of whoever writes it now.

        Args:
            last: the last event that the client has; None if it wants them all.

        Raises:
            StreamGoneError: the journal has nothing of it any more.
            StreamTakenOverError: meanwhile somebody else goes on with it.
        """
        if (before := self.live(entry)) is not None:
            before.supersede()
        recording = self._open(entry, None, last.number if last else 0)
        try:
            record = await self.journal.load(entry)
            if recording.is_superseded:
                raise StreamTakenOverError("another connection goes on with this answer")
            if record is None or (last is not None and last.num_deltas > len(record.deltas)):
                raise StreamGoneError("this answer is not in the journal any more; ask anew")
        except BaseException as error:
            recording.close(error)
            raise
        self.journal.resume(entry)
        recording.play(record)
        return recording

    def _open(self, entry: Entry, body: bytes | None, skip: int) -> Recording:
        recording = Recording(self.journal, entry, body, skip, self._forget)
        self._live[entry.id] = recording
        return recording

    def _forget(self, recording: Recording) -> None:
        if self._live.get(recording.entry.id) is recording:
            del self._live[recording.entry.id]
