"""One answer as it is written to the journal, and read from there again."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence

from glmserve.api.identity import Identity
from glmserve.api.journaling.event_id import EventId
from glmserve.api.journaling.tape import Tape
from glmserve.api.journaling.tokens import RecordedTokens
from glmserve.engine import TokenStream
from glmserve.errors import EngineDeadError, GlmserveError, QueueFullError
from glmserve.journal import Commit, Delta, Entry, Journal, Phase, Record
from glmserve.request import Progress, Request, RequestStatus


class Recording:
    """Of one answer, by one handler. Must be closed on every path.

    Args:
        journal: where to.
        entry: what is answered.
        body: of the request; None if the journal has it.
        skip: events that the client has.
        on_close: called once, with this recording.
    """

    def __init__(
        self,
        journal: Journal,
        entry: Entry,
        body: bytes | None,
        skip: int,
        on_close: Callable[[Recording], None],
    ) -> None:
        self.entry = entry
        self.skip = skip
        self.identity = Identity(entry.stream_id, entry.created)
        self.tape = Tape(())
        self.closed = asyncio.Event()
        self.is_superseded = False
        """Whether a later connection goes on with the answer."""
        self._journal = journal
        self._body = body
        self._on_close = on_close
        self._cancel: Callable[[], None] | None = None
        self._notes = b""
        self._deltas: Sequence[Delta] = ()
        self._commit: Commit | None = None  # of what was recorded last
        self._scored: set[int] = set()  # requests whose prompt's scores are recorded
        self._num_deltas = 0
        self._unfinished = -1  # choices; -1 before they are known
        self._failure: GlmserveError | None = None

    @property
    def is_resumed(self) -> bool:
        """Whether there is a record to go on from."""
        return self._body is None

    def play(self, record: Record) -> None:
        """Go on from this."""
        self._notes, self._deltas = record
        self._num_deltas = len(self._deltas)
        self.tape = Tape(self._deltas)

    def note_seed(self, seed: int) -> int:
        """The seed to use: this one, or that of the answer's beginning."""
        if not self.is_resumed:
            self.entry.seed = seed
        return self.entry.seed

    def note(self, make: Callable[[], bytes]) -> bytes:
        """What else the answer depends on: made now, or when it began."""
        if not self.is_resumed:
            self._notes = self.entry.notes = make()
        return self._notes

    def progress(self, choices: Iterable[int]) -> list[Progress]:
        """How far these choices of one prompt are; the first of them has scored it."""
        by_choice = {choice: Progress() for choice in choices}
        leader = next(iter(by_choice.values()))
        for delta in self._deltas:
            progress = by_choice.get(delta.choice)
            if progress is None:
                continue
            progress.token_ids += delta.token_ids
            progress.num_cached_tokens = delta.num_cached_tokens
            progress.num_drafted_tokens = delta.num_drafted_tokens
            progress.num_accepted_tokens = delta.num_accepted_tokens
            if delta.status:
                progress.status = RequestStatus(delta.status)
            if delta.prompt_logprobs:
                leader.prompt_logprobs = delta.prompt_logprobs
        return list(by_choice.values())

    def tokens_of(self, streams: Iterable[TokenStream], first: int) -> list[RecordedTokens]:
        """The tokens of a group, whose first choice has this number."""
        streams = list(streams)
        leader = streams[0].request
        if leader.prompt_logprobs:
            self._scored.add(leader.id)
        return [
            RecordedTokens(self, number, stream, leader)
            for number, stream in enumerate(streams, first)
        ]

    def begin(self, num_choices: int) -> None:
        """The request is accepted; nothing of it has been computed yet."""
        self._unfinished = num_choices
        if self._body is not None:
            self._commit = self._journal.begin(self.entry, self._body)

    def record(self, delta: Delta, leader: Request) -> None:
        """These tokens become a part of the answer now."""
        if self.is_superseded:
            return
        if leader.prompt_logprobs and leader.id not in self._scored:
            self._scored.add(leader.id)
            delta.prompt_logprobs = list(leader.prompt_logprobs)
        self._num_deltas += 1
        self._commit = self._journal.record(self.entry, delta)

    def note_end(self, ended: float) -> None:
        """A choice is over."""
        self._unfinished -= 1
        self.identity.ended = ended

    def note_failure(self, error: GlmserveError) -> None:
        """There will be no more tokens."""
        self._failure = self._failure or error

    async def event_id(self, number: int) -> EventId | None:
        """By which a client comes back that has this event, the latest one to be made.

        Waits until all that it follows from is in the journal. None if that cannot be.
        """
        num_deltas = self._num_deltas
        if self._commit is not None:
            await self._commit.wait()
        if not self._journal.is_written(self.entry):
            return None
        return EventId(self.entry.stream_id, number, num_deltas)

    def on_supersede(self, cancel: Callable[[], None]) -> None:
        """Have this called when somebody else goes on with the answer."""
        self._cancel = cancel
        if self.is_superseded:
            cancel()

    def supersede(self) -> None:
        """Somebody else goes on with the answer: leave it alone."""
        self.is_superseded = True
        if self._cancel is not None:
            self._cancel()

    async def delivered(self) -> None:
        """All of a whole answer is sent. Who has not named it will not ask again."""
        if self.entry.idempotency_key is None and self._unfinished >= 0:
            self._journal.delete(self.entry)
        self.close()

    def close(self, error: BaseException | None = None) -> None:
        """Leave the answer to whoever asks for the rest. Closing twice is harmless."""
        if self.closed.is_set():
            return
        self.closed.set()
        self._on_close(self)
        if not self.is_superseded:
            self._end(self._failure or error)

    def _end(self, error: BaseException | None) -> None:
        if self._unfinished < 0 and not self.is_resumed:
            self._journal.refuse(self.entry)
        elif self._unfinished == 0:
            self._journal.end(self.entry, Phase.COMPLETE)
        elif not isinstance(error, GlmserveError):
            self._journal.end(self.entry, Phase.ABANDONED)
        elif self._may_end_well(error):
            self._journal.end(self.entry, Phase.RUNNING)  # the next server finishes it
        else:
            self._journal.delete(self.entry)

    def _may_end_well(self, error: GlmserveError) -> bool:
        """Whether the request is still to be answered, though not now."""
        if isinstance(error, EngineDeadError):
            return True
        was_sent_away = isinstance(error, QueueFullError) or error.http_status in (409, 503)
        return was_sent_away and (self.is_resumed or self.entry.is_stream)
