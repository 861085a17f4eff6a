"""What this machine, or the container we are in, lets us use. Linux first; guesses elsewhere."""

from __future__ import annotations

import ctypes
import os
import platform
import re
from collections.abc import Collection
from pathlib import Path

from glmserve.errors import DeviceError

_CGROUP = Path("/sys/fs/cgroup")
_SET_MEMPOLICY = {"x86_64": 238, "aarch64": 237}
"""Number of the system call, which libc has no function for: <asm/unistd.h>."""
_MPOL_PREFERRED = 1  # <linux/mempolicy.h>


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


def run_on(cpus: Collection[int], numa_node: int | None) -> None:
    """Keep this thread, and all that it starts, to these logical CPUs and to a node's memory.

    Linux only. Threads that are running already stay where they are.

    Raises:
        DeviceError: the system does not allow it.
    """
    try:
        os.sched_setaffinity(0, cpus)
    except OSError as error:
        raise DeviceError(f"--cpus: the worker cannot keep to them: {error.strerror}") from None
    if numa_node is not None:
        _prefer_memory(numa_node)


def _prefer_memory(node: int) -> None:
    """Take memory of this node first, and of others when it has none left: set_mempolicy(2)."""
    number = _SET_MEMPOLICY.get(platform.machine())
    if number is None:
        raise DeviceError(f"--numa-node is not known on {platform.machine()}; use --cpus")
    bits = 8 * ctypes.sizeof(ctypes.c_ulong)
    words = node // bits + 1
    mask = (ctypes.c_ulong * words)()
    mask[node // bits] = 1 << node % bits
    libc = ctypes.CDLL(None, use_errno=True)
    # The kernel counts the mask's bits from one.
    if libc.syscall(number, _MPOL_PREFERRED, mask, ctypes.c_ulong(words * bits + 1)):
        reason = os.strerror(ctypes.get_errno())
        raise DeviceError(
            f"--numa-node {node}: its memory cannot be preferred here ({reason}); use --cpus"
        )


def return_free_memory() -> None:
    """Give pages that the allocator keeps for later back to the system, where it can (glibc)."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)


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
