"""What this machine, or the container we are in, lets us use. Linux first; guesses elsewhere."""

from __future__ import annotations

import os
import platform
import re
from pathlib import Path

_CGROUP = Path("/sys/fs/cgroup")


def cpu_name() -> str:
    """ "AMD EPYC 9654 96-Core Processor", or at least the architecture."""
    match = re.search(r"^model name\s*:\s*(.+)$", _read(Path("/proc/cpuinfo")), re.MULTILINE)
    return match[1].strip() if match else platform.processor() or platform.machine()


def usable_cores() -> int:
    """Physical cores that this process may run on: affinity and container quota respected."""
    try:
        cpus = os.sched_getaffinity(0)
    except AttributeError:  # not on this platform
        return max(1, (os.cpu_count() or 2) // 2)
    cores = len({_core_of(cpu) for cpu in cpus})
    quota = re.match(r"(\d+) (\d+)", _read(_CGROUP / "cpu.max"))
    if quota:
        cores = min(cores, int(quota[1]) // int(quota[2]))
    return max(1, cores)


def available_memory() -> int:
    """Bytes that can be allocated without swapping, within the container's limit."""
    match = re.search(r"^MemAvailable:\s*(\d+) kB", _read(Path("/proc/meminfo")), re.MULTILINE)
    if match:
        available = int(match[1]) * 1024
    else:
        available = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2
    limit = _read(_CGROUP / "memory.max").strip()
    used = _read(_CGROUP / "memory.current").strip()
    if limit.isdigit() and used.isdigit():
        # The page cache counts as used but gives way.
        cached = re.search(r"^file (\d+)$", _read(_CGROUP / "memory.stat"), re.MULTILINE)
        taken = int(used) - (int(cached[1]) if cached else 0)
        available = min(available, int(limit) - taken)
    return available


def _core_of(cpu: int) -> str:
    """Hyper-threads of one core give the same text."""
    topology = Path(f"/sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list")
    return _read(topology).strip() or str(cpu)


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except OSError:
        return ""
