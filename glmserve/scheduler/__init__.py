"""Decides which tokens of which requests the next step computes. No clock, no randomness."""

from glmserve.scheduler.crash_tracker import MAX_CRASHES
from glmserve.scheduler.output_processor import TokenUpdate
from glmserve.scheduler.scheduler import Scheduler, SchedulerStats

__all__ = ["MAX_CRASHES", "Scheduler", "SchedulerStats", "TokenUpdate"]
