"""What a device plugin is."""

from __future__ import annotations

from typing import NamedTuple, Protocol

from glmserve.config import ReportProgress, RunnerConfig
from glmserve.step import Runner


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
