"""This machine's CPUs and the cores that this process may use. Exact on Linux, estimates on other
systems."""

from __future__ import annotations

import os
import platform
import re
from pathlib import Path

_CGROUP = Path("/sys/fs/cgroup")


def usable_cores() -> int:
    """Physical cores that this process may use, within affinity and container quota."""
    try:
        cpus = os.sched_getaffinity(0)
    except AttributeError:  # not on this platform
        return max(1, (os.cpu_count() or 2) // 2)
    cores = len({_core_of(cpu) for cpu in cpus})
    quota = cpu_quota()
    return max(1, cores if quota is None else min(cores, int(quota)))


def cpu_quota() -> float | None:
    """CPU time per time that the container may use, in CPUs; None: no limit."""
    quota = re.match(r"(\d+) (\d+)", container_limit("cpu.max"))  # version 2
    if quota:
        return int(quota[1]) / int(quota[2])
    time, period = (container_limit(f"cpu/cpu.cfs_{name}_us") for name in ("quota", "period"))
    return int(time) / int(period) if time.isdigit() and period.isdigit() else None


def _core_of(cpu: int) -> str:
    """A text that identifies the physical core of a logical CPU."""
    topology = Path(f"/sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list")
    return read_text(topology).strip() or str(cpu)


def container_limit(name: str) -> str:
    """The text of a file of the container's control group; empty if there is none."""
    return read_text(_CGROUP / name).strip()


def read_text(path: Path) -> str:
    """A file's text; empty if it cannot be read."""
    try:
        return path.read_text(encoding="utf-8")
    except OSError:
        return ""


def cpu_name() -> str:
    """For example "AMD EPYC 9654 96-Core Processor"; the architecture if no name is found."""
    match = re.search(r"^model name\s*:\s*(.+)$", read_text(Path("/proc/cpuinfo")), re.MULTILINE)
    return match[1].strip() if match else platform.processor() or platform.machine()


def instruction_sets() -> frozenset[str]:
    """Instruction sets of the CPU by their names in Linux: avx2, avx512_vnni, bf16."""
    text = read_text(Path("/proc/cpuinfo"))
    match = re.search(r"^(?:flags|Features)\s*:\s*(.+)$", text, re.MULTILINE)
    return frozenset(match[1].split()) if match else frozenset()
