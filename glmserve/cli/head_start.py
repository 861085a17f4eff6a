"""Starts a server's worker while the server process still imports its own modules."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from glmserve.config import RunnerConfig
from glmserve.executor import Machines, OneMachine, StartedWorker

_WITHOUT_TORCH = "null"
"""The device that does not import torch. Others do; of a small model it takes most of the start."""


@contextmanager
def head_start(config: RunnerConfig, machines: Machines | None) -> Iterator[Machines | None]:
    """The machines of the model's ranks, with a worker that imports torch meanwhile.

    There is none if its CPUs are restricted, which must happen before torch is imported, or if
    there are several ranks. A worker that got no config is ended.

    Args:
        machines: that the model's ranks run on; None: this one.

    Raises:
        OSError: the worker cannot be started.
    """
    if machines is not None or config.num_ranks > 1 or config.cpus is not None:
        yield machines
        return
    started = StartedWorker(imports_torch=config.device != _WITHOUT_TORCH)
    try:
        yield OneMachine(1, started)
    finally:
        started.close()
