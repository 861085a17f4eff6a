"""A replay whose worker dies."""

from __future__ import annotations

import pytest

from glmserve.cli import replay
from glmserve.config import ReportProgress, RunnerConfig, SupervisionConfig
from glmserve.errors import StartupError, WorkerLostError


class KilledExecutor:
    def __init__(self, config: RunnerConfig, supervision: SupervisionConfig) -> None:
        self.is_closed = False

    async def start(self, progress: ReportProgress) -> None:
        """Without facts of a runner."""

    async def wait_lost(self) -> str:
        return "was killed by SIGKILL (out of memory?)"

    async def close(self) -> None:
        self.is_closed = True


async def test_the_end_of_the_worker_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("glmserve.executor.ProcessExecutor", KilledExecutor)
    found = None
    with pytest.raises(StartupError, match="the worker was killed by SIGKILL"):
        async with replay._runner(RunnerConfig(checkpoint="")) as (executor, _):
            found = executor
            raise WorkerLostError
    assert isinstance(found, KilledExecutor)
    assert found.is_closed
