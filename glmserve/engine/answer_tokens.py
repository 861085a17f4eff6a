"""The tokens of all choices of one answer, merged into one order."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence
from functools import partial
from typing import NamedTuple

from glmserve.engine.token_stream import NewTokens, TokenStream


class ChoiceTokens(NamedTuple):
    """New tokens of one choice."""

    choice: int
    """Index of the choice's stream."""
    new: NewTokens


class AnswerTokens:
    """Merges the streams of an answer's choices: the choice that has waited longest comes first.

    There is one consumer and no task per choice. So events are written in the order in which tokens
    are taken.

    Args:
        streams: the token streams of the choices. This object must be their only consumer.
    """

    def __init__(self, streams: Sequence[TokenStream]) -> None:
        self._streams = streams
        self._ready: deque[int] = deque()
        """Choices with something to take, in order of its arrival."""
        self._is_queued = [False] * len(streams)
        self._waiter: asyncio.Future[None] | None = None
        requests = [stream.request for stream in streams]
        for choice, stream in enumerate(streams):
            stream.answer = requests
            stream.on_ready = partial(self._mark_ready, choice)
            if stream.is_ready:
                self._mark_ready(choice)

    async def next(self) -> ChoiceTokens:
        """Wait for tokens of any choice, or for a choice's end.

        Raises:
            GlmserveError: a choice failed.
        """
        while True:
            if not self._ready:
                await self._wait_until_ready()
            choice = self._ready.popleft()
            self._is_queued[choice] = False
            stream = self._streams[choice]
            new = stream.take()
            if new is None:
                continue
            if new.token_ids and stream.is_ready:
                self._mark_ready(choice)
            return ChoiceTokens(choice, new)

    def close(self) -> None:
        """Stop listening to the streams. Each has a reference to this object until then."""
        for stream in self._streams:
            stream.on_ready = None

    async def wait_first(self) -> None:
        """Wait until any choice has a token or has ended.

        Raises:
            GlmserveError: a choice failed before its first token.
        """
        await self._wait_until_ready()
        for choice in self._ready:
            if (error := self._streams[choice].failed_without_tokens) is not None:
                raise error

    async def _wait_until_ready(self) -> None:
        while not self._ready:
            self._waiter = asyncio.get_running_loop().create_future()
            await self._waiter

    def _mark_ready(self, choice: int) -> None:
        if not self._is_queued[choice]:
            self._is_queued[choice] = True
            self._ready.append(choice)
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)
