"""Which tokens of which requests go into the next step: plain Python, no clock, no randomness."""

from glmserve.scheduler.outcome import TokenUpdate
from glmserve.scheduler.scheduler import Scheduler, SchedulerStats
from glmserve.scheduler.suspects import MAX_CRASHES

__all__ = ["MAX_CRASHES", "Scheduler", "SchedulerStats", "TokenUpdate"]
