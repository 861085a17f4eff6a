"""Adapters of worker processes: the loader beside the steps, and all ranks of a group."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from glmserve.config import (
    EMBEDDED_CHECKPOINT,
    RunnerConfig,
    SupervisionConfig,
    report_nothing,
)
from glmserve.contract.adapter import AdapterSource
from glmserve.contract.step import SamplingInput, ScheduledSequence, StepInput
from glmserve.contract.wire import AdapterLoaded
from glmserve.errors import AdapterError, WorkerLostError
from glmserve.executor import ProcessExecutor
from glmserve.worker.adapter_loader import AdapterLoader
from support.adapters import AdapterRunner
from support.device_plugin import install_device
from support.fakes import FakeRunner
from support.waiting import until

BLOCK = (0).to_bytes(4, "little")


def step(adapter_id: int) -> StepInput:
    sequence = ScheduledSequence(0, [7], 0, BLOCK, SamplingInput(), adapter_id=adapter_id)
    return StepInput(1, [sequence])


DEVICE = '''
import os
from glmserve.devices.null import NullDevice
from glmserve.errors import AdapterError


class AdapterDevice(NullDevice):
    """Ranks that note which adapters they have, and refuse what their folder says."""

    name = "adapters"

    def places(self):
        return 1

    def join(self, config):
        return None

    def create_runner(self, config, progress):
        rank = config.group.rank
        runner = super().create_runner(config, progress)
        loaded = set()

        def note():
            with open(f"{os.environ['ADAPTER_NOTES']}.{rank}", "w") as file:
                file.write(" ".join(map(str, sorted(loaded))))

        def read_adapter(source):
            if source.folder == f"refused by {rank}":
                raise AdapterError("rank %d says\\nno" % rank)
            if source.folder == "killer" and rank == 1:
                os.kill(os.getpid(), 9)

            def install():
                runner._adapters[source.id] = 0
                loaded.add(source.id)
                note()

            return install

        def remove_adapter(adapter_id):
            loaded.remove(adapter_id)
            note()

        runner.read_adapter = read_adapter
        runner.remove_adapter = remove_adapter
        return runner
'''


async def test_an_adapter_is_loaded_when_every_rank_has_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install_device("adapters", "AdapterDevice", DEVICE, tmp_path, monkeypatch)
    notes = tmp_path / "notes"
    monkeypatch.setenv("ADAPTER_NOTES", str(notes))
    config = RunnerConfig(
        checkpoint=str(EMBEDDED_CHECKPOINT),
        device="adapters",
        tensor_parallel_size=2,
        max_adapters=2,
    )
    executor = ProcessExecutor(config, SupervisionConfig())

    def held() -> list[str]:
        return [Path(f"{notes}.{rank}").read_text() for rank in range(2)]

    try:
        await executor.start(report_nothing)
        await executor.load_adapter(AdapterSource(1, "fine", "d"))
        assert held() == ["1", "1"]
        with pytest.raises(AdapterError, match="rank 1 says no"):
            await executor.load_adapter(AdapterSource(2, "refused by 1", "d"))
        await executor.submit(step(1))
        assert held() == ["1", "1"]  # rank 0 has freed what rank 1 refused
        executor.remove_adapter(1)
        await executor.submit(step(0))
        await until(lambda: held() == ["", ""])  # the answer is rank 0's
        with pytest.raises(WorkerLostError):
            await executor.load_adapter(AdapterSource(3, "killer", "d"))
    finally:
        await executor.close()


def loader_of(read: Callable[[AdapterSource], Callable[[], None]]) -> AdapterLoader:
    runner = AdapterRunner()
    runner.read_adapter = read  # type: ignore[method-assign]
    return AdapterLoader(runner)


def answers_of(loader: AdapterLoader) -> list[AdapterLoaded]:
    answers: list[AdapterLoaded] = []
    while loader.is_reading:
        answers += loader.finish()
    return answers


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (AdapterError("no\nsuch"), "no such"),
        (MemoryError(), "not enough memory"),
        (KeyError("x"), "KeyError: 'x'"),
        (AdapterError(""), "it cannot be loaded"),
    ],
)
@pytest.mark.parametrize("when", ["read", "installed"])
def test_whatever_fails_is_a_reason(error: Exception, reason: str, when: str) -> None:
    def fail() -> None:
        raise error

    def read(source: AdapterSource) -> Callable[[], None]:
        if when == "read":
            fail()
        return fail

    loader = loader_of(read)
    loader.begin(AdapterSource(4, "x", "d"))
    (answer,) = answers_of(loader)
    assert answer.adapter_id == 4
    assert reason in answer.error
    loader.remove(4)  # as a group does if another rank has it
    loader.close()


def test_a_runner_without_adapters_refuses() -> None:
    loader = AdapterLoader(FakeRunner())
    loader.begin(AdapterSource(1, "x", "d"))
    (answer,) = answers_of(loader)
    assert "without room" in answer.error
    loader.close()
