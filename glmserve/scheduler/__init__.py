"""Which tokens of which requests go into the next step: plain Python, no clock, no randomness."""

from glmserve.scheduler.scheduler import Scheduler, SchedulerStats, TokenUpdate

__all__ = ["Scheduler", "SchedulerStats", "TokenUpdate"]
