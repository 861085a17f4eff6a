"""The generation of one answer: the texts of its choices, growing side by side."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from msgspec import UNSET, UnsetType

from glmserve.api.answering.answer_context import AnswerContext
from glmserve.api.answering.client import ClientSignal, unless_client_leaves
from glmserve.api.answering.quotas import Lease
from glmserve.api.answering.usage import CompletionTokensDetails, PromptTokensDetails, Usage
from glmserve.engine import AnswerTokens, NewTokens, TokenStream
from glmserve.errors import GlmserveError
from glmserve.journal import Delta
from glmserve.request import FINISH_REASONS, Request, RequestStatus
from glmserve.text.text_assembler import ScoredToken, TextAssembler, TextDelta

_END = NewTokens([], [])
_REPLAYED_BETWEEN_PAUSES = 64
"""Recorded deltas that are read before other tasks get a turn."""


class ChoiceDelta(NamedTuple):
    """New text of one choice."""

    number: int
    """Index of the choice in the answer."""
    delta: TextDelta | None
    """None: the choice is complete."""


@dataclass(slots=True)
class Choice:
    """One of the texts of an answer."""

    tokens: TokenStream
    text: TextAssembler
    is_complete: bool = False

    @property
    def request(self) -> Request:
        return self.tokens.request

    @property
    def finish_reason(self) -> str:
        """Why the text ended, once it has."""
        if self.text.stop_string is not None:
            return "stop"
        return FINISH_REASONS[self.request.status]


@dataclass
class WholeText:
    """The text of a complete choice."""

    choice: Choice
    text: str = ""
    token_ids: list[int] = field(default_factory=list)
    scored: list[ScoredToken] = field(default_factory=list)

    @property
    def mean_logprob(self) -> float:
        """Per token, over the tokens of the text."""
        return sum(t.logprobs.logprob for t in self.scored) / max(1, len(self.scored))


class Generation:
    """The choices of one answer: a group of choices for each prompt.

    Must be closed on every path; closing aborts what is not finished, and returns the lease.

    Args:
        groups: the choices of each prompt, at least one.
        answer: what the answer belongs to; where it is journaled, tokens are recorded in the order
            in which they are taken, and that order is the order of the answer's events.
        lease: of the tenant's quota.
    """

    __slots__ = (
        "_journaled",
        "_leaders",
        "_lease",
        "_num_incomplete",
        "_recorded",
        "_recorded_ends",
        "_tokens",
        "adapter",
        "choices",
        "groups",
        "has_failed",
        "identity",
    )

    def __init__(
        self,
        groups: Sequence[Sequence[Choice]],
        answer: AnswerContext | None = None,
        lease: Lease | None = None,
    ) -> None:
        answer = answer or AnswerContext()
        self.identity = answer.identity
        self.adapter = answer.adapter
        self.has_failed = False
        """Whether the answer's next events no longer follow from its tokens."""
        self.groups = groups
        self.choices = [choice for group in groups for choice in group]
        self._num_incomplete = len(self.choices)
        self._leaders = [group[0].request for group in groups for _ in group]
        self._journaled = answer.journaled
        recorded = self._journaled.take_deltas() if self._journaled is not None else ()
        self._recorded = deque(recorded)
        """Deltas of the journal's record that are not read yet."""
        self._recorded_ends = {delta.choice: delta.ended for delta in recorded if delta.status}
        self._tokens = AnswerTokens([choice.tokens for choice in self.choices])
        self._lease = lease
        if lease is not None:
            lease.watch([choice.request for choice in self.choices])

    def close(self) -> None:
        for choice in self.choices:
            choice.tokens.close()
        self._tokens.close()
        if self._lease is not None:
            self._lease.release()

    def usage(self) -> Usage:
        """Tokens of all choices so far."""
        firsts = [group[0].request for group in self.groups]
        prompt_tokens = sum(request.num_prompt_tokens for request in firsts)
        completion_tokens = sum(choice.text.num_output_tokens for choice in self.choices)
        return Usage(
            prompt_tokens=prompt_tokens,
            completion_tokens=completion_tokens,
            total_tokens=prompt_tokens + completion_tokens,
            prompt_tokens_details=PromptTokensDetails(sum(r.num_cached_tokens for r in firsts)),
            completion_tokens_details=self._prediction_details(),
        )

    async def wait_first(self, client_left: ClientSignal, at_most: float) -> None:
        """Wait until any choice has a token or is over, for `at_most` seconds.

        Closes the choices on an error.

        Raises:
            ClientGoneError: the client left.
            GlmserveError: a choice failed before its first token.
        """
        if self._recorded:
            return
        try:
            await unless_client_leaves(client_left, self._wait_first(), at_most)
        except BaseException:
            self.close()
            raise

    @property
    def is_complete(self) -> bool:
        """Whether all deltas are taken."""
        return not self._num_incomplete

    @property
    def is_ready(self) -> bool:
        """Whether `take` has something to return or to raise."""
        return bool(self._recorded) or self._tokens.is_ready

    async def wait(self) -> None:
        """Wait until there is something to take. Other tasks get turns while a record is read."""
        if not self._recorded:
            await self._tokens.wait()
        elif len(self._recorded) % _REPLAYED_BETWEEN_PAUSES == 0:
            await asyncio.sleep(0)

    def listen(self, listener: Callable[[], None] | None) -> None:
        """See AnswerTokens.listen. Deltas of a record arrive without a call."""
        self._tokens.listen(listener)

    def take(self) -> list[ChoiceDelta]:
        """The deltas that follow from the next tokens of a choice, which are recorded first.

        A consumer that comes late finds several tokens in one delta.

        Returns:
            Nothing if no tokens have arrived.

        Raises:
            GlmserveError: a choice failed.
        """
        if self._recorded:
            return self._replay(self._recorded.popleft())
        try:
            taken = self._tokens.take()
            return [] if taken is None else self._advance(*taken)
        except GlmserveError as error:
            self._note_failure(error)
            raise

    async def deltas(self) -> AsyncIterator[ChoiceDelta]:
        """Deltas of all choices, in the order in which their tokens are taken.

        A client that reads slowly gets several tokens in one delta.

        Raises:
            GlmserveError: a choice failed.
        """
        while not self.is_complete:
            await self.wait()
            for delta in self.take():
                yield delta

    async def collect(self, client_left: ClientSignal) -> list[WholeText]:
        """All texts when they are complete. Closes the choices.

        Raises:
            ClientGoneError: the client left first.
            GlmserveError: a choice failed.
        """
        try:
            texts = await unless_client_leaves(client_left, self._collect())
            assert texts is not None  # there is no time limit
            return texts
        finally:
            self.close()

    async def _collect(self) -> list[WholeText]:
        texts = [WholeText(choice) for choice in self.choices]
        pieces: list[list[str]] = [[] for _ in texts]
        async for number, delta in self.deltas():
            if delta is not None:
                pieces[number].append(delta.text)
                texts[number].token_ids += delta.token_ids
                texts[number].scored += delta.scored
        for whole, parts in zip(texts, pieces, strict=True):
            whole.text = "".join(parts)
        return texts

    async def _wait_first(self) -> None:
        try:
            await self._tokens.wait_first()
        except GlmserveError as error:
            self._note_failure(error)
            raise

    def _replay(self, recorded: Delta) -> list[ChoiceDelta]:
        """The deltas that follow from one of the journal's record."""
        assert self._journaled is not None
        number = recorded.choice
        if self.choices[number].is_complete:
            return []
        deltas = self._read(number, NewTokens(recorded.token_ids, recorded.logprobs))
        if self.choices[number].is_complete:
            if number in self._recorded_ends:
                self._journaled.note_end(self._recorded_ends[number])
            else:  # the record stops between a stop string and the end that follows it
                self._record(number, _END)
        return deltas

    def _advance(self, number: int, new: NewTokens) -> list[ChoiceDelta]:
        """Record new tokens of a choice; the deltas that follow from them."""
        choice = self.choices[number]
        if choice.is_complete:
            return []
        self._record(number, new)
        deltas = self._read(number, new)
        if choice.is_complete and new.token_ids:  # by a stop string: no end will come
            self._record(number, _END)
        return deltas

    def _read(self, number: int, new: NewTokens) -> list[ChoiceDelta]:
        """The deltas that follow from tokens of a choice, or from its end."""
        choice = self.choices[number]
        if new.token_ids:
            deltas: list[ChoiceDelta] = [ChoiceDelta(number, choice.text.push(new))]
            if choice.text.stop_string is None:
                return deltas
            choice.tokens.close(RequestStatus.FINISHED_STOPPED)
        else:
            rest = choice.text.finish()
            deltas = [ChoiceDelta(number, rest)] if rest is not None else []
        choice.is_complete = True
        self._num_incomplete -= 1
        return [*deltas, ChoiceDelta(number, None)]

    def _record(self, number: int, new: NewTokens) -> None:
        if self._journaled is not None:
            request, leader = self.choices[number].request, self._leaders[number]
            self._journaled.record(number, new, request, leader)

    def _note_failure(self, error: GlmserveError) -> None:
        self.has_failed = True
        if self._journaled is not None:
            self._journaled.note_failure(error)

    def _prediction_details(self) -> CompletionTokensDetails | UnsetType:
        requests = [choice.request for choice in self.choices if choice.request.prediction]
        if not requests:
            return UNSET
        accepted = sum(request.num_accepted_tokens for request in requests)
        drafted = sum(request.num_drafted_tokens for request in requests)
        return CompletionTokensDetails(accepted, drafted - accepted)
