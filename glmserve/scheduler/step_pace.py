"""How many prompt tokens a step may take beside decodes, so that no stream waits for long.

It learns the cost of steps from their times, which the caller measures:

    seconds = decodes + prompt tokens * seconds of one

`decodes` is the time of a step of decodes alone. Both are medians of the last few steps. So a step
that something else has delayed changes nothing, and a larger batch or a longer context is learned
soon.
"""

from __future__ import annotations

from glmserve.scheduler.recent_median import RecentMedian

_DECODES = 3.0
"""A step may take so many times the time of its decodes alone,"""
_AT_LEAST = 0.05
"""or so many seconds, whichever is more."""
_LEAST_TOKENS = 32
"""Prompt tokens that a step takes in any case. Fewer take as long on a CPU, which reads all weights
for them, too."""
_KEPT = 9
"""Steps of each kind that count."""
_STEPS_UNTIL_PROBE = 64
"""Steps with prompts after which one has decodes alone, to learn their time anew."""


class StepPace:
    """Learns what steps cost. It has no clock.

    Args:
        max_seconds: the most that a step with decodes should take; None: by the time of decodes;
            0: no limit.
    """

    def __init__(self, max_seconds: float | None) -> None:
        self._max_seconds = max_seconds
        self._decodes = RecentMedian(_KEPT)
        """Seconds of steps of decodes alone."""
        self._prompt_tokens = RecentMedian(_KEPT)
        """Seconds of one prompt token in each step that had enough of them."""
        self._has_begun = False
        self._num_mixed = 0
        """Steps with prompts beside decodes since the last one of decodes alone."""

    def record(self, decodes: int, others: int, seconds: float) -> None:
        """Learn from a step.

        Args:
            decodes: sequences with one token, drafts aside.
            others: all other tokens: of prompts, and drafts.
            seconds: from its beginning, or the end of the step before it, to its output.
        """
        self._has_begun = True
        if not others:
            self._decodes.add(seconds)
            self._num_mixed = 0
            return
        self._num_mixed += decodes > 0
        if others >= _LEAST_TOKENS:
            self._prompt_tokens.add(max(0.0, seconds - self._decodes.value) / others)

    @property
    def room(self) -> int | None:
        """Tokens other than decodes that a step may have beside decodes; None: no limit."""
        if self._max_seconds == 0 or not self._has_begun:
            return None
        if not self._decodes or self._num_mixed >= _STEPS_UNTIL_PROBE:
            return 0
        if not self._prompt_tokens:
            return _LEAST_TOKENS
        decodes, token = self._decodes.value, self._prompt_tokens.value
        limit = self._max_seconds or max(_DECODES * decodes, _AT_LEAST)
        return None if not token else max(_LEAST_TOKENS, int((limit - decodes) / token))

    def expected(self, others: int) -> float | None:
        """Seconds that a step of decodes and `others` other tokens should take; None: not known."""
        if not self._decodes or (others and not self._prompt_tokens):
            return None
        return self._decodes.value + others * self._prompt_tokens.value

    @property
    def token_seconds(self) -> float:
        """What one prompt token takes; 0 as long as that is not known."""
        return self._prompt_tokens.value
