"""The deltas of one answer, in one order for all its choices."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterable

from glmserve.journal import Delta


class Tape:
    """Gives out recorded deltas, each to the reader of its choice when its turn has come.

    The order among choices matters: it is that of their events.
    """

    def __init__(self, deltas: Iterable[Delta]) -> None:
        self._deltas = deque(deltas)
        self._waiters: list[asyncio.Future[None]] = []

    @property
    def is_played(self) -> bool:
        """Whether there is nothing left to give out."""
        return not self._deltas

    async def next(self, choice: int) -> Delta | None:
        """The next delta of a choice; None when no choice has any left."""
        while self._deltas and self._deltas[0].choice != choice:
            waiter = asyncio.get_running_loop().create_future()
            self._waiters.append(waiter)
            await waiter
        if not self._deltas:
            return None
        delta = self._deltas.popleft()
        self._wake()
        return delta

    def drop(self, choice: int) -> Delta | None:
        """Nobody reads this choice any more; its end, if that was still to come."""
        dropped = [delta for delta in self._deltas if delta.choice == choice]
        if dropped:
            self._deltas = deque(delta for delta in self._deltas if delta.choice != choice)
            self._wake()
        return next((delta for delta in dropped if delta.status), None)

    def _wake(self) -> None:
        """Whoever reads now is first done with it: futures wake their tasks later."""
        for waiter in self._waiters:
            if not waiter.done():
                waiter.set_result(None)
        self._waiters.clear()
