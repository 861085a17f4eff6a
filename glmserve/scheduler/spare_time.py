"""Which steps of other requests may hold some in the background as well.

On a GPU a few more sequences in a step cost almost nothing, on a CPU they cost much. So the cost is
measured: a step with both kinds may take longer than the others' steps alone, as long as it all
adds up to a small share of their time.
"""

from __future__ import annotations

from glmserve.scheduler.recent_median import RecentMedian

_SHARE = 0.03
"""Of the time of other requests, for those in the background."""
_KEPT = 15
"""Steps of other requests alone whose median is their time."""
_MOST_STEPS = 1.0
"""The most that is saved up, as a number of such steps."""


class SpareTime:
    """Learns from the times of steps. It has no clock."""

    def __init__(self) -> None:
        self._alone = RecentMedian(_KEPT)
        self._saved = 0.0  # seconds; below 0: used in advance

    @property
    def is_left(self) -> bool:
        """Whether the next step may be shared."""
        return self._alone.is_full and self._saved > 0

    def record_alone(self, seconds: float) -> None:
        """Learn from a step of decodes of other requests alone."""
        self._alone.add(seconds)
        self._save(_SHARE * seconds)

    def record_shared(self, seconds: float) -> None:
        """Pay for a step that held requests in the background as well."""
        alone = self._alone.value
        self._save(_SHARE * alone - (seconds - alone))

    def _save(self, seconds: float) -> None:
        most = _MOST_STEPS * self._alone.value
        self._saved = min(self._saved + seconds, most)
