"""Assigns CPUs to the worker and to the server process. Linux only."""

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
    """The CPUs of the worker."""

    cpus: tuple[int, ...] | None
    """Logical CPUs; None: all."""
    numa_node: int | None
    """The NUMA node that was named, if any."""


def place_worker(
    cpus: tuple[int, ...] | None, numa_node: int | None, nodes: Path = _NODES
) -> Placement:
    """The worker's CPUs for --cpus or --numa-node.

    Args:
        nodes: folder of the system's NUMA nodes.

    Raises:
        OptionError: the CPUs or the node do not exist, or this process may not use them.
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
    """Restrict this thread and all that it starts to the CPUs that are not the worker's, if any.

    The worker inherits this restriction and then sets its own CPUs.
    """
    if cpus is not None and (others := os.sched_getaffinity(0) - set(cpus)):
        os.sched_setaffinity(0, others)


def _allowed(option: str) -> set[int]:
    """The CPUs that this process may use.

    Raises:
        OptionError: the system is not Linux.
    """
    if not hasattr(os, "sched_getaffinity"):
        raise OptionError(f"{option} is for Linux only")
    return os.sched_getaffinity(0)


def _cpus_of(node: int, nodes: Path) -> tuple[int, ...]:
    """The CPUs of a NUMA node.

    Raises:
        OptionError: there is no such node, or it has no CPUs.
    """
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
    """Numbers as ranges: 0, 1, 2, 3 and 8 are "0-3,8"."""
    runs: list[list[int]] = []
    for number in numbers:
        if runs and number == runs[-1][-1] + 1:
            runs[-1] = [runs[-1][0], number]
        else:
            runs.append([number])
    return ",".join("-".join(map(str, run)) for run in runs)
