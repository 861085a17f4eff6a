"""Memory that this process may use. Exact on Linux, estimates on other systems."""

from __future__ import annotations

import ctypes
import os
import re
import resource
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from glmserve.process.cpus import container_limit, read_text

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


def total_memory() -> int:
    """Bytes of memory of the machine."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def memory_limit() -> int | None:
    """Memory limit of the container in bytes; None: none below that of the machine."""
    limits = [container_limit(files.limit) for files in _MEMORY_FILES]
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
    match = re.search(r"^MemAvailable:\s*(\d+) kB", read_text(Path("/proc/meminfo")), re.MULTILINE)
    if match:
        available = int(match[1]) * 1024
    else:
        available = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2
    for files in _MEMORY_FILES:
        limit, used = container_limit(files.limit), container_limit(files.used)
        if limit.isdigit() and used.isdigit():
            # The page cache counts as used, but the system can drop it.
            cached = re.search(files.cached, container_limit(files.stat), re.MULTILINE)
            taken = int(used) - (int(cached[1]) if cached else 0)
            available = min(available, int(limit) - taken)
    return min(available, _address_space())


def _address_space() -> int:
    """Bytes that this process may still map: the limit of ulimit -v less what is mapped."""
    limit, _ = resource.getrlimit(resource.RLIMIT_AS)
    pages = re.match(r"\d+", read_text(Path("/proc/self/statm")))
    if limit == resource.RLIM_INFINITY or pages is None:
        return sys.maxsize
    return max(0, limit - int(pages[0]) * resource.getpagesize())
