"""The tokens of all requests of one answer, in one order."""

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

    There is one consumer and no task per choice, so the order in which tokens are taken is the
    order of everything that follows from them.

    Args:
        streams: the token streams of the choices; each is used by this object alone.
    """

    def __init__(self, streams: Sequence[TokenStream]) -> None:
        self._streams = streams
        self._ready: deque[int] = deque()
        """Choices with news, in the order in which it came."""
        self._is_ready = [False] * len(streams)
        self._waiter: asyncio.Future[None] | None = None
        requests = [stream.request for stream in streams]
        for choice, stream in enumerate(streams):
            stream.answer = requests
            stream.on_news = partial(self._note, choice)
            if stream.has_news:
                self._note(choice)

    async def next(self) -> ChoiceTokens:
        """Wait for tokens of any choice, or for its end.

        Raises:
            GlmserveError: a choice failed.
        """
        while True:
            await self._wait_for_news()
            choice = self._ready.popleft()
            self._is_ready[choice] = False
            stream = self._streams[choice]
            new = stream.take()
            if new is None:
                continue
            if new.token_ids and stream.has_news:
                self._note(choice)
            return ChoiceTokens(choice, new)

    async def wait_first(self) -> None:
        """Wait until any choice has a token, or is over.

        Raises:
            GlmserveError: a choice failed before its first token.
        """
        await self._wait_for_news()
        for choice in self._ready:
            if (error := self._streams[choice].failed_without_tokens) is not None:
                raise error

    async def _wait_for_news(self) -> None:
        while not self._ready:
            self._waiter = asyncio.get_running_loop().create_future()
            await self._waiter

    def _note(self, choice: int) -> None:
        if not self._is_ready[choice]:
            self._is_ready[choice] = True
            self._ready.append(choice)
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)
