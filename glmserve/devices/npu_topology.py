"""The NUMA node of an NPU and its CPUs. Linux only; nothing here opens the NPU."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path
from typing import NamedTuple

from glmserve.devices.affinity import run_on

_SYSTEM = Path("/sys")
_TOOL = "npu-smi"
_TIMEOUT = 20.0
"""Seconds for the vendor's tool."""


class NumaNode(NamedTuple):
    """A NUMA node, as far as this process may use it."""

    number: int
    cpus: frozenset[int]
    """Logical CPUs."""


def keep_near(npu: int) -> NumaNode | None:
    """Bind this thread, and those it starts, to the CPUs beside an NPU.

    Returns:
        The node; None: it is not known or may not be used, and nothing is bound.
    """
    node = node_of(npu)
    if node is not None:
        run_on(node.cpus, None)
    return node


def node_of(npu: int, system: Path = _SYSTEM) -> NumaNode | None:
    """The node of the NPU with this number; None: it is not known here, or has no usable CPUs.

    Args:
        system: the mounted sysfs.
    """
    address = _pci_address(npu)
    if address is None or not hasattr(os, "sched_getaffinity"):
        return None
    try:
        number = int((system / "bus/pci/devices" / address / "numa_node").read_text())
        if number < 0:  # a machine with one node
            return None
        cpus = (system / f"devices/system/node/node{number}/cpulist").read_text()
    except (OSError, ValueError):
        return None
    usable = frozenset(_numbers(cpus)) & os.sched_getaffinity(0)
    return NumaNode(number, usable) if usable else None


def _pci_address(npu: int) -> str | None:
    """ "0000:c1:00.0" of the NPU with this number.

    `npu-smi info -m` lists card, chip and number of each NPU; `npu-smi info -t board` describes a
    chip of a card.
    """
    for line in _ask("info", "-m").splitlines():
        row = re.match(r"\s*(\d+)\s+(\d+)\s+(\d+)\s", f"{line} ")
        if row and int(row[3]) == npu:
            board = _ask("info", "-t", "board", "-i", row[1], "-c", row[2])
            found = re.search(r"PCIe Bus Info\s*:\s*([0-9A-Fa-f:.]+)", board)
            return found[1].lower() if found else None
    return None


def _ask(*arguments: str) -> str:
    """What the vendor's tool prints; empty: it is missing, fails or hangs."""
    try:
        done = subprocess.run(
            [_TOOL, *arguments], capture_output=True, text=True, timeout=_TIMEOUT, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout


def _numbers(ranges: str) -> list[int]:
    """ "0-2,8" as 0, 1, 2 and 8."""
    found: list[int] = []
    for part in filter(None, ranges.strip().split(",")):
        first, _, last = part.partition("-")
        found += range(int(first), int(last or first) + 1)
    return found
