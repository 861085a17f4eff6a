"""Cores and memory that this process may use. Exact on Linux, estimates on other systems."""

from __future__ import annotations

import ctypes
import os
import platform
import re
import resource
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

_CGROUP = Path("/sys/fs/cgroup")

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # <malloc.h>
_LARGEST_MMAP_THRESHOLD = 2**25
"""DEFAULT_MMAP_THRESHOLD_MAX in glibc's malloc.c, 64 bits."""


class _MemoryFiles(NamedTuple):
    """Files of a version of cgroups with a container's memory limit and use, in bytes."""

    limit: str
    used: str
    stat: str
    cached: str
    """Pattern of the line of `stat` with the page cache."""


_MEMORY_FILES = (
    _MemoryFiles("memory.max", "memory.current", "memory.stat", r"^file (\d+)$"),
    _MemoryFiles(
        "memory/memory.limit_in_bytes",
        "memory/memory.usage_in_bytes",
        "memory/memory.stat",
        r"^total_cache (\d+)$",
    ),
)


def cpu_name() -> str:
    """For example "AMD EPYC 9654 96-Core Processor"; the architecture if no name is found."""
    match = re.search(r"^model name\s*:\s*(.+)$", _read(Path("/proc/cpuinfo")), re.MULTILINE)
    return match[1].strip() if match else platform.processor() or platform.machine()


def usable_cores() -> int:
    """Physical cores that this process may use, within affinity and container quota."""
    try:
        cpus = os.sched_getaffinity(0)
    except AttributeError:  # not on this platform
        return max(1, (os.cpu_count() or 2) // 2)
    cores = len({_core_of(cpu) for cpu in cpus})
    quota = cpu_quota()
    return max(1, cores if quota is None else min(cores, int(quota)))


def instruction_sets() -> frozenset[str]:
    """Instruction sets of the CPU by their names in Linux: avx2, avx512_vnni, bf16."""
    text = _read(Path("/proc/cpuinfo"))
    match = re.search(r"^(?:flags|Features)\s*:\s*(.+)$", text, re.MULTILINE)
    return frozenset(match[1].split()) if match else frozenset()


def total_memory() -> int:
    """Bytes of memory of the machine."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def memory_limit() -> int | None:
    """Memory limit of the container in bytes; None: none below that of the machine."""
    limits = [_read(_CGROUP / files.limit).strip() for files in _MEMORY_FILES]
    found = [int(limit) for limit in limits if limit.isdigit() and int(limit) < total_memory()]
    return min(found, default=None)


def return_free_memory() -> None:
    """Return unused memory of the allocator to the system, if it is glibc's."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)


@contextmanager
def large_blocks_apart() -> Iterator[None]:
    """Within it, the allocator returns large blocks to the system as soon as they are free, if it
    is glibc's. Else blocks of many sizes, as of a rank's weights before and after packing, leave
    holes: measured with weights of 6 to 12 MB, loading took 1.4 times the memory."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        yield
        return
    mallopt(_M_MMAP_THRESHOLD, 2**16)
    try:
        yield
    finally:
        # Where glibc itself moves it to when such blocks are freed; steps need it to be fast.
        mallopt(_M_MMAP_THRESHOLD, _LARGEST_MMAP_THRESHOLD)
        mallopt(_M_TRIM_THRESHOLD, 2 * _LARGEST_MMAP_THRESHOLD)


def available_memory() -> int:
    """Bytes that can be allocated without swapping, within the container's limit."""
    match = re.search(r"^MemAvailable:\s*(\d+) kB", _read(Path("/proc/meminfo")), re.MULTILINE)
    if match:
        available = int(match[1]) * 1024
    else:
        available = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2
    for files in _MEMORY_FILES:
        limit, used = _read(_CGROUP / files.limit).strip(), _read(_CGROUP / files.used).strip()
        if limit.isdigit() and used.isdigit():
            # The page cache counts as used, but the system can drop it.
            cached = re.search(files.cached, _read(_CGROUP / files.stat), re.MULTILINE)
            taken = int(used) - (int(cached[1]) if cached else 0)
            available = min(available, int(limit) - taken)
    return min(available, _address_space())


def _address_space() -> int:
    """Bytes that this process may still map: the limit of ulimit -v less what is mapped."""
    limit, _ = resource.getrlimit(resource.RLIMIT_AS)
    pages = re.match(r"\d+", _read(Path("/proc/self/statm")))
    if limit == resource.RLIM_INFINITY or pages is None:
        return sys.maxsize
    return max(0, limit - int(pages[0]) * resource.getpagesize())


def cpu_quota() -> float | None:
    """CPU time per time that the container may use, in CPUs; None: no limit."""
    quota = re.match(r"(\d+) (\d+)", _read(_CGROUP / "cpu.max"))  # version 2
    if quota:
        return int(quota[1]) / int(quota[2])
    time, period = (
        _read(_CGROUP / f"cpu/cpu.cfs_{name}_us").strip() for name in ("quota", "period")
    )
    return int(time) / int(period) if time.isdigit() and period.isdigit() else None


def _core_of(cpu: int) -> str:
    """A text that identifies the physical core of a logical CPU."""
    topology = Path(f"/sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list")
    return _read(topology).strip() or str(cpu)


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except OSError:
        return ""
