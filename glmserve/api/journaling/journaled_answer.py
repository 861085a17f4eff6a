"""One answer as it is written to the journal, and read from there again."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Sequence

from glmserve.api.journaling.event_id import EventId
from glmserve.api.journaling.identity import Identity
from glmserve.engine import NewTokens
from glmserve.errors import EngineDeadError, GlmserveError, QueueFullError
from glmserve.journal import Commit, Delta, Entry, Journal, Phase, Record
from glmserve.request import Progress, Request, RequestStatus


class JournaledAnswer:
    """The record of one answer, kept by the handler that writes it. Must be closed on every path.

    Args:
        journal: where the answer is recorded.
        entry: the request's entry.
        body: of the request; None if the journal has it.
        skip: number of events that the client already has.
        on_close: called once, with this object.
    """

    def __init__(
        self,
        journal: Journal,
        entry: Entry,
        body: bytes | None,
        skip: int,
        on_close: Callable[[JournaledAnswer], None],
    ) -> None:
        self.entry = entry
        self.skip = skip
        self.identity = Identity(entry.stream_id, entry.created)
        self.deltas: Sequence[Delta] = ()
        """Deltas of the record at resumption, in the order in which their tokens were taken."""
        self.closed = asyncio.Event()
        self.superseded = asyncio.Event()
        """Set when a later connection goes on with the answer."""
        self._journal = journal
        self._body = body
        self._on_close = on_close
        self._cancel: Callable[[], None] | None = None
        self._notes = b""
        self._commit: Commit | None = None
        """The commit of the newest delta."""
        self._scored: set[int] = set()
        """Ids of the requests with recorded log-probabilities of the prompt."""
        self._num_deltas = 0
        self._num_unfinished: int | None = None
        """Choices that are not complete; None before the request is accepted."""
        self._failure: GlmserveError | None = None

    @property
    def is_superseded(self) -> bool:
        """Whether a later connection goes on with the answer."""
        return self.superseded.is_set()

    @property
    def is_resumed(self) -> bool:
        """Whether there is a record to go on from."""
        return self._body is None

    def restore(self, record: Record) -> None:
        """Go on from this record."""
        self._notes, self.deltas = record
        self._num_deltas = len(self.deltas)

    def take_deltas(self) -> Sequence[Delta]:
        """The deltas of the record, which are then no longer kept here."""
        recorded, self.deltas = self.deltas, ()
        return recorded

    def note_seed(self, seed: int) -> int:
        """The seed to use: this one, or the one with which the answer began."""
        if not self.is_resumed:
            self.entry.seed = seed
        return self.entry.seed

    def endpoint_data(self, create: Callable[[], bytes]) -> bytes:
        """The endpoint's data: created for a new answer, read from the record of a resumed one."""
        if not self.is_resumed:
            self._notes = self.entry.notes = create()
        return self._notes

    def progress(self, choices: Iterable[int]) -> list[Progress]:
        """How far these choices of one prompt are; the first of them has scored the prompt."""
        by_choice = {choice: Progress() for choice in choices}
        leader = next(iter(by_choice.values()))
        for delta in self.deltas:
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

    def begin(self, groups: Sequence[Sequence[Request]]) -> None:
        """Record that the request is accepted.

        Args:
            groups: the choices of each prompt; the first of a group scores the prompt.
        """
        self._scored = {group[0].id for group in groups if group[0].prompt_logprobs}
        self._num_unfinished = sum(map(len, groups))
        if self._body is not None:
            self._commit = self._journal.begin(self.entry, self._body)

    def record(self, choice: int, new: NewTokens, request: Request, leader: Request) -> None:
        """Record tokens of a choice before they become a part of the answer. No tokens: its end.

        Args:
            leader: the first request of the choice's group.
        """
        if new.token_ids:
            self._record(choice, new, request, leader)
        else:
            now = time.time()
            self._record(choice, new, request, leader, request.status, now)
            self.note_end(now)

    def note_end(self, ended: float) -> None:
        """Count a choice as complete; the record has its end (Unix seconds)."""
        if self._num_unfinished is not None:
            self._num_unfinished -= 1
        self.identity.ended = ended

    def note_failure(self, error: GlmserveError) -> None:
        """Remember the error that ended the answer."""
        self._failure = self._failure or error

    async def event_id(self, number: int) -> EventId | None:
        """The id of the newest event, once all that it follows from is in the journal.

        None if the journal cannot be written, or if a later connection goes on with the answer.
        """
        num_deltas = self._num_deltas
        await self.settle()
        if self.is_superseded or not self._journal.is_written(self.entry):
            return None
        return EventId(self.entry.stream_id, number, num_deltas)

    async def settle(self) -> None:
        """Wait until all tokens so far are in the journal, or will not be. Whether another server
        has taken the answer is known then."""
        if self._commit is not None:
            await self._commit.wait()

    def on_supersede(self, cancel: Callable[[], None]) -> None:
        """Have `cancel` called when a later connection goes on with the answer."""
        self._cancel = cancel
        if self.is_superseded:
            cancel()

    def supersede(self) -> None:
        """Mark this handler as replaced by a later connection, and cancel it."""
        self.superseded.set()
        if self._cancel is not None:
            self._cancel()

    async def delivered(self) -> None:
        """A whole answer is sent. Without an Idempotency-Key it cannot be requested again."""
        if self.entry.idempotency_key is None and self._num_unfinished is not None:
            self._journal.delete(self.entry)
        self.close()

    def close(self, error: BaseException | None = None) -> None:
        """Stop writing; a later request may resume the answer. Closing twice is harmless."""
        if self.closed.is_set():
            return
        self.closed.set()
        self._on_close(self)
        if not self.is_superseded:
            self._end(self._failure or error)

    def _record(
        self,
        choice: int,
        new: NewTokens,
        request: Request,
        leader: Request,
        status: int = 0,
        ended: float = 0.0,
    ) -> None:
        if self.is_superseded:
            return
        delta = Delta(
            choice,
            new.token_ids,
            status,
            ended,
            request.num_cached_tokens,
            request.num_drafted_tokens,
            request.num_accepted_tokens,
            new.logprobs,
        )
        if leader.prompt_logprobs and leader.id not in self._scored:
            self._scored.add(leader.id)
            delta.prompt_logprobs = list(leader.prompt_logprobs)
        self._num_deltas += 1
        self._commit = self._journal.record(self.entry, delta)

    def _end(self, error: BaseException | None) -> None:
        if self._num_unfinished is None and not self.is_resumed:
            self._journal.refuse(self.entry)
        elif self._num_unfinished == 0:
            self._journal.end(self.entry, Phase.COMPLETE)
        elif not isinstance(error, GlmserveError):
            self._journal.end(self.entry, Phase.ABANDONED)
        elif self._can_finish_later(error):
            self._journal.end(self.entry, Phase.RUNNING)  # the next server finishes it
        else:
            self._journal.delete(self.entry)

    def _can_finish_later(self, error: GlmserveError) -> bool:
        """Whether the request may still be answered after this error."""
        if isinstance(error, EngineDeadError):
            return True
        was_sent_away = isinstance(error, QueueFullError) or error.http_status in (409, 503)
        return was_sent_away and (self.is_resumed or self.entry.is_stream)
