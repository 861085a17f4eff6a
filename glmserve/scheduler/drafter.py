"""Drafts for one request: where they come from, and how many were correct so far."""

from __future__ import annotations

from array import array
from collections.abc import Sequence

from glmserve.request import Request
from glmserve.scheduler.earlier_answers import Answers
from glmserve.scheduler.prompt_lookup import PromptLookup
from glmserve.scheduler.text_index import LONGEST_MATCH

_LONGEST_PAUSE = 31
"""Maximum number of steps without drafts after failures; every 32nd step then tries one."""

_PRIOR_WEIGHT = 4.0
"""A request's own drafts count as much as those of all requests when so many have been checked."""
_MEMORY = 64.0
"""Checked drafts that count in a rate. Older ones count less and less."""


class Sources:
    """Where the guesses for one request come from: the longest match counts.

    Args:
        prediction: token ids that the output may resemble, see Request.
        answers: earlier ones to prompts that begin in the same way; None: none are used.
    """

    def __init__(self, prediction: Sequence[int] = (), answers: Answers | None = None) -> None:
        self._lookup = PromptLookup(prediction)
        self._answers = answers
        self.match_length = 0
        """Tokens that matched in the last call of `continuation`; 0: nothing did."""

    def continuation(self, tokens: array[int], count: int) -> list[int]:
        """Up to `count` guesses of the tokens after `tokens`; see PromptLookup."""
        guesses = self._lookup.continuation(tokens, count)
        self.match_length = self._lookup.match_length
        if self._answers is None or self.match_length == LONGEST_MATCH:
            return guesses
        others = self._answers.continuation(tokens, count)
        if self._answers.match_length <= self.match_length:
            return guesses
        self.match_length = self._answers.match_length
        return others


class AdaptiveDrafter:
    """Drafts for one request, as many as its last ones allow to expect.

    Args:
        max_drafts: maximum number of drafts in one step.
        sources: where they come from.
    """

    def __init__(self, max_drafts: int, sources: Sources) -> None:
        self._sources = sources
        self._max_drafts = max_drafts
        self._length = max_drafts  # drafts to try in the next step
        self._pause = 0  # steps to skip before the next try
        self._failures = 0  # consecutive tries without a correct draft

    def guess(self, request: Request, room: int) -> list[int]:
        """Up to `room` guesses of the request's next tokens, often none. Call once per step."""
        if self._pause:
            self._pause -= 1
            return []
        return self._sources.continuation(request.token_ids, min(self._length, room))

    def record_result(self, num_drafted: int, num_accepted: int) -> None:
        """Adapt the number of drafts to the last result.

        If all were correct it doubles. If none was, it halves and a pause follows. Otherwise it is
        the number of correct drafts.
        """
        if num_accepted == 0:
            self._failures += 1
            self._pause = min(2**self._failures - 1, _LONGEST_PAUSE)
            self._length = max(1, self._length // 2)
            return
        self._failures = 0
        all_correct = num_accepted == num_drafted
        self._length = min(2 * self._length, self._max_drafts) if all_correct else num_accepted


class AcceptanceRate:
    """The share of correct ones among drafts that were checked.

    A draft is checked if all drafts before it are correct.
    """

    def __init__(self, checked: float = 0.0, correct: float = 0.0) -> None:
        self._checked = checked
        self._correct = correct

    def record(self, num_drafted: int, num_accepted: int) -> None:
        """Count the drafts of one step."""
        self._checked += num_accepted + (num_accepted < num_drafted)
        self._correct += num_accepted
        if self._checked > _MEMORY:
            scale = _MEMORY / self._checked
            self._checked, self._correct = self._checked * scale, self._correct * scale

    def mixed_with(self, prior: float) -> float:
        """The rate, if `prior` is expected where little has been checked."""
        return (self._correct + _PRIOR_WEIGHT * prior) / (self._checked + _PRIOR_WEIGHT)


class SharedRates:
    """The acceptance rates of all requests' drafts, by the length of the match they come from.

    A longer match predicts better, and a new request has no drafts of its own to judge by.
    """

    def __init__(self) -> None:
        self._rates = [AcceptanceRate(2.0, 1.0) for _ in range(LONGEST_MATCH + 1)]

    def rate(self, match_length: int) -> float:
        """The rate after matches of this many tokens."""
        return self._rates[match_length].mixed_with(0.5)

    def record(self, match_length: int, num_drafted: int, num_accepted: int) -> None:
        """Count the drafts of one request in one step."""
        self._rates[match_length].record(num_drafted, num_accepted)


class MeasuredDrafter:
    """Drafts for one request, with the probability that one is correct.

    Args:
        max_drafts: maximum number of drafts in one step.
        shared: the rates of all requests.
        sources: where they come from.
    """

    def __init__(self, max_drafts: int, shared: SharedRates, sources: Sources) -> None:
        self._sources = sources
        self._max_drafts = max_drafts
        self._shared = shared
        self._own = AcceptanceRate()
        self.last_explored = 0
        """Number of the exploration in which it last got a draft."""

    def guess(self, request: Request, room: int) -> list[int]:
        """Up to `room` guesses of the request's next tokens, often none. Call once per step."""
        return self._sources.continuation(request.token_ids, min(self._max_drafts, room))

    @property
    def probability(self) -> float:
        """That a guess of the last call is correct, if those before it are."""
        return self._own.mixed_with(self._shared.rate(self._sources.match_length))

    def record_result(self, num_drafted: int, num_accepted: int) -> None:
        """Learn from the drafts of one step."""
        self._own.record(num_drafted, num_accepted)
        self._shared.record(self._sources.match_length, num_drafted, num_accepted)
