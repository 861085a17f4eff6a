"""Which CPUs the worker runs on, and which are left to the server process. Linux only."""

from __future__ import annotations

import argparse
import os
from collections.abc import Collection
from pathlib import Path
from typing import NamedTuple

from glmserve.cli import values
from glmserve.errors import OptionError

_NODES = Path("/sys/devices/system/node")


class Placement(NamedTuple):
    """Where the worker is to run."""

    cpus: tuple[int, ...] | None
    """Logical CPUs; None: anywhere."""
    numa_node: int | None


def place_worker(
    cpus: tuple[int, ...] | None, numa_node: int | None, nodes: Path = _NODES
) -> Placement:
    """What --cpus or --numa-node ask for.

    Raises:
        OptionError: there are no such CPUs, no such node, or we may not use them.
    """
    if cpus is not None:
        allowed = _allowed("--cpus")
        if missing := sorted(set(cpus) - allowed):
            raise OptionError(f"--cpus: {missing[0]} may not be used; {_may_use(allowed)}")
        return Placement(cpus, None)
    if numa_node is not None:
        option = f"--numa-node {numa_node}"
        allowed = _allowed(option)
        found = allowed & set(_cpus_of(numa_node, nodes))
        if not found:
            raise OptionError(f"{option}: none of its CPUs may be used; {_may_use(allowed)}")
        return Placement(tuple(sorted(found)), numa_node)
    return Placement(None, None)


def leave_to_worker(cpus: Collection[int] | None) -> None:
    """Keep this thread, and all that it starts, to the CPUs that are not the worker's, if any.

    The worker leaves them again by itself.
    """
    if cpus is not None and (others := os.sched_getaffinity(0) - set(cpus)):
        os.sched_setaffinity(0, others)


def _allowed(option: str) -> set[int]:
    """CPUs that this process may run on."""
    if not hasattr(os, "sched_getaffinity"):
        raise OptionError(f"{option} is for Linux only")
    return os.sched_getaffinity(0)


def _cpus_of(node: int, nodes: Path) -> tuple[int, ...]:
    """Raises OptionError: there is no such node, or it has none."""
    try:
        text = (nodes / f"node{node}" / "cpulist").read_text().strip()
    except OSError:
        known = sorted(int(p.name[4:]) for p in nodes.glob("node[0-9]*"))
        there = f"there is {_list(known)}" if known else "this system has none"
        raise OptionError(f"--numa-node {node}: no such node; {there}") from None
    try:
        return values.cpu_list(text)
    except argparse.ArgumentTypeError:
        raise OptionError(f"--numa-node {node}: it has no CPUs") from None


def _may_use(allowed: Collection[int]) -> str:
    return f"this process may use {_list(sorted(allowed))}"


def _list(numbers: Collection[int]) -> str:
    """0-3,8 of 0, 1, 2, 3 and 8."""
    runs: list[list[int]] = []
    for number in numbers:
        if runs and number == runs[-1][-1] + 1:
            runs[-1] = [runs[-1][0], number]
        else:
            runs.append([number])
    return ",".join("-".join(map(str, run)) for run in runs)
