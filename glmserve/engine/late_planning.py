"""When to plan the next step for a runner that waits for each step.

Such a runner needs its next step when the one before it ends. It then begins at once, instead of
waiting until tokens are delivered and a step is planned. But a request that arrives after the next
step is planned has to wait for the one after it. So the next step is planned late.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

_LEAD_SECONDS = 0.0015
"""The next step is planned this time before the running step should end: 1 millisecond is the
resolution of the event loop's timers, and planning and sending take the rest."""
_LEAD_SHARE = 0.05
"""It is planned earlier by this share of the running step's expected time, which is not exact."""
_LONGEST = 0.05
"""Behind a step that should take more seconds, none is planned ahead. That would gain less than 1
percent, since some 0.3 milliseconds pass between two steps; and a request that ends with a stop
token is computed in vain in a step that was planned ahead."""


class LatePlanning:
    """Tells whether it is time.

    Args:
        wake: called when it is time.
    """

    def __init__(self, wake: Callable[[], None]) -> None:
        self._wake = wake
        self._timer: asyncio.TimerHandle | None = None

    def is_time(self, began: float, expected: float | None) -> bool:
        """Whether to plan the next step now; if not, `wake` is called later, or the step that runs
        is to end first.

        Args:
            began: when the step that runs began, by time.perf_counter().
            expected: seconds that it should take; None: not known.
        """
        self.cancel()
        if expected is None or expected > _LONGEST:
            return False
        lead = _LEAD_SECONDS + _LEAD_SHARE * expected
        left = began + expected - lead - time.perf_counter()
        if left <= 0:
            return True
        self._timer = asyncio.get_running_loop().call_later(left, self._wake)
        return False

    def cancel(self) -> None:
        """Do not call `wake`."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
