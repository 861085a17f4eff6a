"""Gives each rank of a CPU model CPUs of its own: NUMA nodes if there are enough, else cores."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from glmserve.contract.shard import Shard
from glmserve.devices.affinity import run_on
from glmserve.process.numa import NODES, cpus_by_node, read_list

_CPUS = Path("/sys/devices/system/cpu")


class RankCpus(NamedTuple):
    """The CPUs of one rank."""

    cpus: tuple[int, ...]
    """Logical CPUs, ascending."""
    numa_node: int | None
    """The node that all of them belong to; its memory is used first. None: that is not known."""

    def __str__(self) -> str:
        first, last = self.cpus[0], self.cpus[-1]
        is_run = last - first + 1 == len(self.cpus)
        numbers = f"{first}-{last}" if is_run and last > first else ",".join(map(str, self.cpus))
        node = "" if self.numa_node is None else f" of NUMA node {self.numa_node}"
        return f"CPU{'s' if len(self.cpus) > 1 else ''} {numbers}{node}"


def keep_to_part(shard: Shard) -> RankCpus | None:
    """Bind this process to the rank's part of the CPUs that it may use, and to their memory.

    Call it before threads start.

    Returns:
        The part; None: it is the whole, there are fewer cores than ranks, or the system is not
        Linux, and nothing is bound.
    """
    if shard.size == 1 or not hasattr(os, "sched_getaffinity"):
        return None
    part = part_of(shard, os.sched_getaffinity(0), NODES, _CPUS)
    if part is not None:
        run_on(part.cpus, part.numa_node)
    return part


def part_of(shard: Shard, allowed: set[int], nodes: Path, cpus: Path) -> RankCpus | None:
    """The rank's part of the allowed CPUs, see `keep_to_part`.

    Args:
        nodes: folder of the system's NUMA nodes.
        cpus: folder of its CPUs.
    """
    by_node = cpus_by_node(allowed, nodes)
    if len(by_node) >= shard.size:
        own = shard.part(len(by_node))
        numbers = [list(by_node)[i] for i in own]
        chosen = [cpu for number in numbers for cpu in by_node[number]]
        return RankCpus(tuple(sorted(chosen)), numbers[0] if len(numbers) == 1 else None)
    cores = _cores(by_node, allowed, cpus)
    if len(cores) < shard.size:
        return None
    chosen = [cpu for i in shard.part(len(cores)) for cpu in cores[i]]
    homes = {number for number, members in by_node.items() if set(chosen) & set(members)}
    node = homes.pop() if len(homes) == 1 and len(by_node) > 1 else None
    return RankCpus(tuple(sorted(chosen)), node)


def _cores(by_node: dict[int, list[int]], allowed: set[int], folder: Path) -> list[list[int]]:
    """The allowed CPUs of each core, in order of nodes and cores."""
    ordered = [cpu for members in by_node.values() for cpu in members] or sorted(allowed)
    cores: dict[Sequence[int], list[int]] = {}
    for cpu in ordered:
        siblings = tuple(read_list(folder / f"cpu{cpu}/topology/thread_siblings_list")) or (cpu,)
        cores.setdefault(siblings, []).append(cpu)
    return list(cores.values())
