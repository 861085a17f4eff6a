"""Cards for which glmserve compiles, but which it does not drive: each says why and what does."""

from __future__ import annotations

from typing import NoReturn

from glmserve.config import ReportProgress, RunnerConfig
from glmserve.devices.base import DeviceInfo
from glmserve.errors import DeviceError


class VaccDevice:
    """Vastai's cards."""

    name = "vacc"

    def probe(self) -> DeviceInfo:
        return _reason(self.name, "vastgenx")

    def create_runner(self, config: RunnerConfig, progress: ReportProgress) -> NoReturn:
        raise DeviceError(self.probe().reason)


class CompassDevice:
    """Hexaflake's cards."""

    name = "compass"

    def probe(self) -> DeviceInfo:
        return _reason(self.name, "hxinfer")

    def create_runner(self, config: RunnerConfig, progress: ReportProgress) -> NoReturn:
        raise DeviceError(self.probe().reason)


def _reason(name: str, runtime: str) -> DeviceInfo:
    return DeviceInfo(
        False,
        f"glmserve only writes what its compiler takes, by `glmserve compile --for {name}`; the "
        f"vendor's {runtime} drives the card",
    )
