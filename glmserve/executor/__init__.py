"""Executes steps with a runner on a thread of this process, or in a worker process."""

from glmserve.executor.base import Executor
from glmserve.executor.inline import InlineExecutor
from glmserve.executor.machine import Machines
from glmserve.executor.process import ProcessExecutor
from glmserve.executor.rank_state import RankState

__all__ = ["Executor", "InlineExecutor", "Machines", "ProcessExecutor", "RankState"]
