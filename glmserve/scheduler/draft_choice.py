"""How many drafts each request gets: as many as it was configured to get, or as many as pay."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from heapq import heapify, heappop, heapreplace
from itertools import islice
from typing import NamedTuple, Protocol, TypeVar

from glmserve.request import Request
from glmserve.scheduler.draft_costs import DraftCosts, DraftSeconds
from glmserve.scheduler.drafter import AdaptiveDrafter, MeasuredDrafter, SharedRates, Sources

_MAX_MEASURED = 16
"""Drafts of one request in a step. Later ones are rarely reached."""
_LEAST_GAIN = 1.02
"""Drafts must make a step so many times as productive as without, because times are not exact."""
_EXPLORATION = 0.005
"""Share of time for drafts that are not expected to pay, to learn whether they would."""
_MOST_CREDIT = 10.0
"""Such time is saved up to that of so many steps."""


class Drafter(Protocol):
    """See AdaptiveDrafter."""

    def guess(self, request: Request, room: int) -> list[int]: ...

    def record_result(self, num_drafted: int, num_accepted: int) -> None: ...


D = TypeVar("D", bound=Drafter)
Offers = Sequence[tuple[D, list[int]]]
"""Of each request in a step: its drafter and its guesses, often none."""


class DraftChoice(Protocol[D]):
    """Decides between the guesses of all requests in a step."""

    def drafter(self, sources: Sources) -> D:
        """A drafter for a new request."""

    def numbers(self, offers: Offers[D], room: int, decodes: int) -> list[int]:
        """How many of its guesses each drafter gets.

        Args:
            room: largest sum of these numbers.
            decodes: sequences with one token in the step; 0: it has prompts, too.
        """

    def record_step(self, decodes: int, drafts: int, seconds: float) -> None:
        """Learn from the time of a step without prompts."""


class EqualShares:
    """Every guess is tried. If there is no room for all, requests get equal shares.

    Args:
        max_drafts: drafts of one request in a step.
    """

    def __init__(self, max_drafts: int) -> None:
        self._max_drafts = max_drafts

    def drafter(self, sources: Sources) -> AdaptiveDrafter:
        """A drafter for a new request."""
        return AdaptiveDrafter(self._max_drafts, sources)

    def numbers(self, offers: Offers[AdaptiveDrafter], room: int, decodes: int) -> list[int]:
        """Equal shares of `room`; what a request does not need goes to those after it."""
        numbers = []
        for others, (_, guesses) in zip(reversed(range(len(offers))), offers, strict=True):
            numbers.append(min(len(guesses), -(-room // (1 + others))))
            room -= numbers[-1]
        return numbers

    def record_step(self, decodes: int, drafts: int, seconds: float) -> None:
        """Nothing: the numbers do not depend on times."""


class _Guess(NamedTuple):
    probability: float
    """That this guess and all before it are correct."""
    place: int
    """Of its drafter among the offers."""


class WhatPays:
    """The guesses that make a step more productive than without any.

    A step is worth the tokens that it is expected to yield, per second. Guesses are added in the
    order of their probability. A step with prompts has none, because its length depends on other
    things.
    """

    def __init__(self, max_drafts: int) -> None:
        self._max_drafts = min(max_drafts, _MAX_MEASURED)
        self._costs = DraftCosts()
        self._rates = SharedRates()
        self._credit = 0.0  # seconds for exploration
        self._explorations = 0

    def drafter(self, sources: Sources) -> MeasuredDrafter:
        """A drafter for a new request."""
        return MeasuredDrafter(self._max_drafts, self._rates, sources)

    def numbers(self, offers: Offers[MeasuredDrafter], room: int, decodes: int) -> list[int]:
        """As many guesses as pay; else, now and then, one to learn from."""
        numbers = [0] * len(offers)
        if decodes and room and any(guesses for _, guesses in offers):
            for guess in self._guesses_that_pay(offers, room, decodes):
                numbers[guess.place] += 1
        return numbers

    def _guesses_that_pay(
        self, offers: Offers[MeasuredDrafter], room: int, decodes: int
    ) -> list[_Guess]:
        decode_seconds = self._costs.decode_seconds(decodes)
        if decode_seconds is None or self._costs.needs_plain_step:
            return []
        costs = self._costs.draft_seconds(decodes)
        if not costs.is_known:
            return self._explore(offers)
        guesses = list(islice(_by_probability(offers), room))
        return _best(guesses, decodes, decode_seconds, costs) or self._explore(offers, costs.of(1))

    def _explore(self, offers: Offers[MeasuredDrafter], price: float = 0.0) -> list[_Guess]:
        """One guess of the request that has not been explored for longest, or none.

        Args:
            price: seconds of the time for exploration that it takes.
        """
        if self._credit < price:
            return []
        self._credit -= price
        self._explorations += 1
        _, index = min(
            (drafter.last_explored, index)
            for index, (drafter, guesses) in enumerate(offers)
            if guesses
        )
        offers[index][0].last_explored = self._explorations
        return [_Guess(offers[index][0].probability, index)]

    def record_step(self, decodes: int, drafts: int, seconds: float) -> None:
        """Learn from the time of a step without prompts."""
        self._costs.record(decodes, drafts, seconds)
        self._credit = min(self._credit + _EXPLORATION * seconds, _MOST_CREDIT * seconds)


def _by_probability(offers: Offers[MeasuredDrafter]) -> Iterator[_Guess]:
    """All guesses, the most probable first. A request's own are in their order."""
    heap = [
        (-drafter.probability, index, 1)
        for index, (drafter, guesses) in enumerate(offers)
        if guesses
    ]
    heapify(heap)
    while heap:
        negative, index, number = heap[0]
        yield _Guess(-negative, index)
        drafter, guesses = offers[index]
        if number < len(guesses):
            heapreplace(heap, (negative * drafter.probability, index, number + 1))
        else:
            heappop(heap)


def _best(
    guesses: list[_Guess], decodes: int, decode_seconds: float, costs: DraftSeconds
) -> list[_Guess]:
    """The first so many guesses that yield most tokens per second; none if no number pays."""
    best, best_rate = 0, _LEAST_GAIN * decodes / decode_seconds
    expected = float(decodes)
    for number, guess in enumerate(guesses, start=1):
        expected += guess.probability
        rate = expected / (decode_seconds + costs.of(number))
        if rate > best_rate:
            best, best_rate = number, rate
    return guesses[:best]
