"""A server's worker starts before the server has imported what it needs."""

from __future__ import annotations

import os

import msgspec
import pytest

from glmserve.cli.head_start import head_start
from glmserve.config import EMBEDDED_CHECKPOINT, RunnerConfig, SupervisionConfig, report_nothing
from glmserve.executor import OneMachine, ProcessExecutor
from support.server_process import children, is_worker

CONFIG = RunnerConfig(checkpoint=str(EMBEDDED_CHECKPOINT), device="null")


def workers() -> list[int]:
    return [child for child in children(os.getpid()) if is_worker(child)]


async def test_the_executor_takes_the_worker_that_waits() -> None:
    with head_start(CONFIG, None) as machines:
        waiting = workers()
        executor = ProcessExecutor(CONFIG, SupervisionConfig(), machines)
        await executor.start(report_nothing)
        assert workers() == waiting == [executor.worker_pid]
    assert workers() == waiting
    await executor.close()
    assert not workers()


def test_a_start_that_fails_ends_the_worker() -> None:
    with pytest.raises(ZeroDivisionError), head_start(CONFIG, None):
        assert len(workers()) == 1
        raise ZeroDivisionError
    assert not workers()


@pytest.mark.parametrize("field", [{"cpus": (0,)}, {"tensor_parallel_size": 2}])
def test_none_if_it_could_not_be_used(field: dict[str, object]) -> None:
    with head_start(msgspec.structs.replace(CONFIG, **field), None) as machines:
        assert machines is None
        assert not workers()


def test_none_if_the_ranks_are_elsewhere() -> None:
    elsewhere = OneMachine(1)
    with head_start(CONFIG, elsewhere) as machines:
        assert machines is elsewhere
        assert not workers()
