"""A server's worker starts before the server has imported what it needs."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from unittest import mock

import msgspec
import pytest

from glmserve.cli.head_start import head_start
from glmserve.config import EMBEDDED_CHECKPOINT, RunnerConfig, SupervisionConfig, report_nothing
from glmserve.executor import OneMachine, ProcessExecutor, worker_start

CONFIG = RunnerConfig(checkpoint=str(EMBEDDED_CHECKPOINT), device="null")


@pytest.fixture
def started() -> Iterator[list[subprocess.Popen[bytes]]]:
    """The processes that are started."""
    found: list[subprocess.Popen[bytes]] = []

    class Noted(subprocess.Popen[bytes]):
        def __init__(self, *arguments: object, **options: object) -> None:
            super().__init__(*arguments, **options)
            found.append(self)

    with mock.patch.object(worker_start.subprocess, "Popen", Noted):
        yield found


async def test_the_executor_takes_the_worker_that_waits(
    started: list[subprocess.Popen[bytes]],
) -> None:
    with head_start(CONFIG, None) as machines:
        (waiting,) = started
        executor = ProcessExecutor(CONFIG, SupervisionConfig(), machines)
        await executor.start(report_nothing)
        assert executor.worker_pid == waiting.pid
    assert waiting.poll() is None
    await executor.close()
    assert waiting.poll() is not None
    assert started == [waiting]


def test_a_start_that_fails_ends_the_worker(started: list[subprocess.Popen[bytes]]) -> None:
    with pytest.raises(ZeroDivisionError), head_start(CONFIG, None):
        assert started[0].poll() is None
        raise ZeroDivisionError
    assert started[0].returncode is not None


@pytest.mark.parametrize("field", [{"cpus": (0,)}, {"tensor_parallel_size": 2}])
def test_none_if_it_could_not_be_used(
    started: list[subprocess.Popen[bytes]], field: dict[str, object]
) -> None:
    with head_start(msgspec.structs.replace(CONFIG, **field), None) as machines:
        assert machines is None
        assert not started


def test_none_if_the_ranks_are_elsewhere(started: list[subprocess.Popen[bytes]]) -> None:
    elsewhere = OneMachine(1)
    with head_start(CONFIG, elsewhere) as machines:
        assert machines is elsewhere
        assert not started
