"""The tokens of all choices of one answer, merged into one order."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from functools import partial

from glmserve.engine.token_stream import NewTokens, TokenStream

ChoiceTokens = tuple[int, NewTokens]
"""Index of a choice's stream, and new tokens of the choice."""


class AnswerTokens:
    """Merges the streams of an answer's choices: the choice that has waited longest comes first.

    There is one consumer and no task per choice. So events are written in the order in which tokens
    are taken.

    Args:
        streams: the token streams of the choices. This object must be their only consumer.
    """

    __slots__ = ("_is_queued", "_listener", "_ready", "_streams")

    def __init__(self, streams: Sequence[TokenStream]) -> None:
        self._streams = streams
        self._ready: deque[int] = deque()
        """Choices with something to take, in order of its arrival."""
        self._is_queued = [False] * len(streams)
        self._listener: Callable[[], None] | None = None
        requests = [stream.request for stream in streams]
        for choice, stream in enumerate(streams):
            stream.answer = requests
            stream.on_ready = partial(self._mark_ready, choice)
            if stream.is_ready:
                self._mark_ready(choice)

    @property
    def is_ready(self) -> bool:
        """Whether `take` has something to return or to raise."""
        return bool(self._ready)

    def take(self) -> ChoiceTokens | None:
        """Tokens or the end of the choice that has waited longest; None if there are none yet.

        Raises:
            GlmserveError: a choice failed.
        """
        while self._ready:
            choice = self._ready.popleft()
            self._is_queued[choice] = False
            stream = self._streams[choice]
            new = stream.take()
            if new is None:
                continue
            if new.token_ids and stream.is_ready:
                self._mark_ready(choice)
            return choice, new
        return None

    async def next(self) -> ChoiceTokens:
        """Wait for tokens of any choice, or for a choice's end.

        Raises:
            GlmserveError: a choice failed.
        """
        while (taken := self.take()) is None:
            await self.wait()
        return taken

    async def wait(self) -> None:
        """Wait until there is something to take."""
        if not self._ready:
            arrived = asyncio.Event()
            self.listen(arrived.set)
            try:
                await arrived.wait()
            finally:
                self.listen(None)

    def listen(self, listener: Callable[[], None] | None) -> None:
        """Have `listener` called whenever there is something to take and there was nothing before.

        Args:
            listener: it must only make a note, because the engine is delivering tokens. It replaces
                an earlier one; None: there is none.
        """
        self._listener = listener

    def close(self) -> None:
        """Stop listening to the streams. Each has a reference to this object until then."""
        self._listener = None
        for stream in self._streams:
            stream.on_ready = None

    async def wait_first(self) -> None:
        """Wait until any choice has a token or has ended.

        Raises:
            GlmserveError: a choice failed before its first token.
        """
        await self.wait()
        for choice in self._ready:
            if (error := self._streams[choice].failed_without_tokens) is not None:
                raise error

    def _mark_ready(self, choice: int) -> None:
        if self._is_queued[choice]:
            return
        self._is_queued[choice] = True
        self._ready.append(choice)
        if self._listener is not None and len(self._ready) == 1:
            self._listener()
