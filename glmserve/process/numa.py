"""The NUMA nodes of this machine. Linux only."""

from __future__ import annotations

import os
import re
from pathlib import Path

NODES = Path("/sys/devices/system/node")
"""Folder of the system's NUMA nodes."""


def usable_nodes() -> int:
    """Number of NUMA nodes with CPUs that this process may use; 0: that is not known."""
    if not hasattr(os, "sched_getaffinity"):
        return 0
    return len(cpus_by_node(os.sched_getaffinity(0), NODES))


def cpus_by_node(allowed: set[int], folder: Path) -> dict[int, list[int]]:
    """The allowed CPUs of each node that has some, in order of the nodes.

    Args:
        folder: of the system's NUMA nodes.
    """
    found = {}
    for path in folder.glob("node[0-9]*"):
        members = sorted(allowed.intersection(read_list(path / "cpulist")))
        if members:
            found[int(path.name[4:])] = members
    return dict(sorted(found.items()))


def read_list(path: Path) -> list[int]:
    """Numbers of a list such as 0-3,8; empty if there is no such file."""
    try:
        text = path.read_text(encoding="ascii")
    except OSError:
        return []
    runs = [run.partition("-") for run in re.findall(r"\d+-\d+|\d+", text)]
    return [n for first, _, last in runs for n in range(int(first), int(last or first) + 1)]
