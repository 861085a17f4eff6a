"""What a device plugin is."""

from __future__ import annotations

from typing import NamedTuple, Protocol, runtime_checkable

from glmserve.config import ReportProgress, RunnerConfig
from glmserve.contract.step import Runner
from glmserve.model_config import ModelConfig
from glmserve.runner.limits import MemoryNeeds


class DeviceInfo(NamedTuple):
    """Whether a device can be used on this machine."""

    available: bool
    reason: str
    """Why, or why not; people read it."""


class Device(Protocol):
    """One kind of hardware, or one way to use it."""

    name: str

    def probe(self) -> DeviceInfo:
        """Look whether the device is usable, without holding on to it."""
        ...

    def create_runner(self, config: RunnerConfig, progress: ReportProgress) -> Runner:
        """Load the model.

        Raises:
            StartupError: it cannot be loaded here.
        """
        ...


@runtime_checkable
class PlanningDevice(Device, Protocol):
    """A device that also says what a model will take, for `glmserve doctor`."""

    def memory_needs(self, config: RunnerConfig, model: ModelConfig) -> MemoryNeeds:
        """What `create_runner` would go by now; nothing is loaded.

        Raises:
            StartupError: an option cannot be had here.
        """
        ...
