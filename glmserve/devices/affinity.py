"""Keeps the worker to some CPUs and to their memory. Linux only."""

from __future__ import annotations

import ctypes
import os
import platform
from collections.abc import Collection

from glmserve.errors import DeviceError

_SET_MEMPOLICY = {"x86_64": 238, "aarch64": 237}
"""Number of the system call, which libc has no function for: <asm/unistd.h>."""
_MPOL_PREFERRED = 1  # <linux/mempolicy.h>


def run_on(cpus: Collection[int], numa_node: int | None) -> None:
    """Keep this thread, and all that it starts, to these logical CPUs and to a node's memory.

    Threads that are running already stay where they are.

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
