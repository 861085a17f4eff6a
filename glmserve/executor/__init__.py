"""Executes steps with a runner on a thread of this process, or in a worker process."""

from glmserve.executor.base import Executor
from glmserve.executor.inline import InlineExecutor
from glmserve.executor.machine import Machines
from glmserve.executor.one_machine import OneMachine
from glmserve.executor.process import ProcessExecutor
from glmserve.executor.rank_state import RankState
from glmserve.executor.worker_start import StartedWorker

__all__ = [
    "Executor",
    "InlineExecutor",
    "Machines",
    "OneMachine",
    "ProcessExecutor",
    "RankState",
    "StartedWorker",
]
