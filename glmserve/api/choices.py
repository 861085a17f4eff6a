"""The choices of one request: several texts that grow side by side."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import NamedTuple

from msgspec import UNSET, UnsetType
from starlette.requests import ClientDisconnect, Request

from glmserve.api.journaling.asked import Asked
from glmserve.api.quotas import Lease
from glmserve.api.usage import CompletionTokensDetails, PromptTokensDetails, Usage
from glmserve.errors import GlmserveError
from glmserve.text.text_stream import ScoredToken, TextDelta, TextStream


class ChoiceDelta(NamedTuple):
    """What is new in one choice."""

    number: int
    delta: TextDelta | None
    """None: the choice is complete."""


class WholeText(NamedTuple):
    """A complete choice."""

    stream: TextStream
    text: str
    token_ids: list[int]
    scored: list[ScoredToken]

    @property
    def mean_logprob(self) -> float:
        """Per token, over those of the text."""
        return sum(t.logprobs.logprob for t in self.scored) / max(1, len(self.scored))


class Generation:
    """Text streams of one request, a group of continuations for each of its prompts.

    Must be closed on every path; closing aborts what is not finished, and gives back the lease.
    """

    def __init__(
        self,
        groups: Sequence[Sequence[TextStream]],
        asked: Asked | None = None,
        lease: Lease | None = None,
    ) -> None:
        asked = asked or Asked()
        self.identity = asked.identity
        self.recording = asked.recording
        self.has_failed = False
        """Whether what is said now no longer follows from the tokens."""
        self.groups = groups
        self._lease = lease
        self.streams = [stream for group in groups for stream in group]
        requests = [stream.request for stream in self.streams]
        for stream in self.streams:
            stream.join(requests)
        if lease is not None:
            lease.watch(requests)

    def close(self) -> None:
        for stream in self.streams:
            stream.close()
        if self._lease is not None:
            self._lease.release()

    def usage(self) -> Usage:
        """Tokens of all choices so far."""
        firsts = [group[0].request for group in self.groups]
        prompt_tokens = sum(request.num_prompt_tokens for request in firsts)
        completion_tokens = sum(stream.num_output_tokens for stream in self.streams)
        return Usage(
            prompt_tokens=prompt_tokens,
            completion_tokens=completion_tokens,
            total_tokens=prompt_tokens + completion_tokens,
            prompt_tokens_details=PromptTokensDetails(sum(r.num_cached_tokens for r in firsts)),
            completion_tokens_details=self._prediction_details(),
        )

    def _prediction_details(self) -> CompletionTokensDetails | UnsetType:
        requests = [stream.request for stream in self.streams if stream.request.prediction]
        if not requests:
            return UNSET
        accepted = sum(request.num_accepted_tokens for request in requests)
        drafted = sum(request.num_drafted_tokens for request in requests)
        return CompletionTokensDetails(accepted, drafted - accepted)

    async def wait_first(self, request: Request, at_most: float) -> None:
        """Wait until there is something to tell of any choice, but not for ever.

        Closes them if there never will be.

        Args:
            at_most: seconds.

        Raises:
            ClientDisconnect: the client left.
            GlmserveError: one of them failed before its first token.
        """
        waiting = [asyncio.ensure_future(stream.wait_first()) for stream in self.streams]
        leaving = asyncio.ensure_future(disconnected(request))
        try:
            done, _ = await asyncio.wait(
                (*waiting, leaving), timeout=at_most, return_when=asyncio.FIRST_COMPLETED
            )
            if leaving in done:
                raise ClientDisconnect
            errors = [error for task in done if (error := task.exception()) is not None]
            if errors:  # of several choices, perhaps; all of them have been looked at
                raise errors[0]
        except BaseException:
            self.close()
            raise
        finally:
            for task in (*waiting, leaving):
                task.cancel()

    async def deltas(self) -> AsyncIterator[ChoiceDelta]:
        """Deltas of all choices as they come.

        Raises:
            GlmserveError: one of them failed.
        """
        try:
            if len(self.streams) == 1:
                async for delta in self.streams[0]:
                    yield ChoiceDelta(0, delta)
                yield ChoiceDelta(0, None)
                return
            async for item in self._merged():
                yield item
        except GlmserveError:
            self.has_failed = True
            raise

    async def _merged(self) -> AsyncIterator[ChoiceDelta]:
        """In the order in which they were taken from the streams: a record has the same order.

        A choice has one delta here at most. What comes while the client is slow waits, and is
        merged, in its stream.
        """
        queue: asyncio.Queue[ChoiceDelta | Exception] = asyncio.Queue()
        turns = [asyncio.Semaphore(0) for _ in self.streams]
        readers = [
            asyncio.create_task(_read(index, stream, queue, turns[index]))
            for index, stream in enumerate(self.streams)
        ]
        unfinished = len(readers)
        try:
            while unfinished:
                item = await queue.get()
                if isinstance(item, Exception):
                    raise item
                unfinished -= item.delta is None
                turns[item.number].release()
                yield item
        finally:
            for reader in readers:
                reader.cancel()

    async def collect(self, request: Request) -> list[WholeText]:
        """All choices when they are complete, unless the client leaves first. Closes them.

        Raises:
            ClientDisconnect: it left.
            GlmserveError: one of them failed.
        """
        generating = asyncio.ensure_future(_join_all(self.streams))
        leaving = asyncio.ensure_future(disconnected(request))
        try:
            await asyncio.wait((generating, leaving), return_when=asyncio.FIRST_COMPLETED)
            if not generating.done():
                raise ClientDisconnect
            return generating.result()
        finally:
            generating.cancel()
            leaving.cancel()
            self.close()


async def _read(
    index: int,
    stream: TextStream,
    queue: asyncio.Queue[ChoiceDelta | Exception],
    turn: asyncio.Semaphore,
) -> None:
    """Put one delta after the other into the queue, each when the one before has been taken."""
    try:
        async for delta in stream:
            queue.put_nowait(ChoiceDelta(index, delta))
            await turn.acquire()
        queue.put_nowait(ChoiceDelta(index, None))
    except Exception as error:  # whatever it is: somebody waits for this choice to end
        queue.put_nowait(error)


async def _join_all(streams: Sequence[TextStream]) -> list[WholeText]:
    readers = [asyncio.create_task(_join(stream)) for stream in streams]
    try:
        return await asyncio.gather(*readers)
    finally:
        for reader in readers:
            reader.cancel()


async def _join(stream: TextStream) -> WholeText:
    text: list[str] = []
    token_ids: list[int] = []
    scored: list[ScoredToken] = []
    async for delta in stream:
        text.append(delta.text)
        token_ids += delta.token_ids
        scored += delta.scored
    return WholeText(stream, "".join(text), token_ids, scored)


async def disconnected(request: Request) -> None:
    """Return when the client has closed its connection."""
    while (await request.receive())["type"] != "http.disconnect":
        pass
