"""The ascend device over simulated calls, in CPU memory. Servers find it as a device plugin."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from glmserve.devices.ascend import AscendDevice
from glmserve.ops.ascend.chip import Chip, chip_named
from support.ascend_simulator.library import register
from support.device_plugin import install_device

NAME = "ascend-simulated"
MEMORY = 2**32
"""Bytes of an NPU."""
NPUS = 4
TESTS = Path(__file__).parents[2]


class SimulatedDriver:
    """An NpuDriver."""

    device = torch.device("cpu")
    collectives = "gloo"

    def why_unusable(self) -> str | None:
        return None

    def describe(self) -> str:
        return "simulated"

    def count(self) -> int:
        return NPUS

    def open(self, place: int) -> str:
        assert place < NPUS
        register()
        return "Ascend910B3"

    def memory(self) -> tuple[int, int]:
        return MEMORY, MEMORY


class SimulatedAscend(AscendDevice):
    """An Atlas A2 that computes in float32, too, as references do."""

    name = NAME

    def __init__(self) -> None:
        super().__init__(SimulatedDriver(), simulated_chip)


def simulated_chip(name: str) -> Chip:
    """The chip of this name, with float32."""
    chip = chip_named(name)
    return chip._replace(dtypes=chip.dtypes | {torch.float32})


def install(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let processes started from now on find the device by its NAME."""
    source = "from support.ascend_simulator.device import SimulatedAscend as SimulatedAscend\n"
    install_device("ascend-simulated", "SimulatedAscend", source, folder, monkeypatch)
    (folder / "support").symlink_to(TESTS / "support")
