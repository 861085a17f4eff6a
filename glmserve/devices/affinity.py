"""Binds the worker to some CPUs and to their memory. Linux only."""

from __future__ import annotations

import ctypes
import os
import platform
from collections.abc import Collection

from glmserve.errors import DeviceError

_SET_MEMPOLICY = {"x86_64": 238, "aarch64": 237}
"""Number of the system call in <asm/unistd.h>; libc has no function for it."""
_MPOL_PREFERRED = 1  # <linux/mempolicy.h>


def run_on(cpus: Collection[int], numa_node: int | None) -> None:
    """Bind this thread, and the threads it starts, to logical CPUs and to the memory of a node.

    Other running threads are not bound.

    Args:
        cpus: numbers of logical CPUs.
        numa_node: the preferred node for memory; None: no preference.

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
    """Prefer memory of this node, and use other nodes when it is full: set_mempolicy(2)."""
    number = _SET_MEMPOLICY.get(platform.machine())
    if number is None:
        raise DeviceError(f"--numa-node is not known on {platform.machine()}; use --cpus")
    bits = 8 * ctypes.sizeof(ctypes.c_ulong)
    words = node // bits + 1
    mask = (ctypes.c_ulong * words)()
    mask[node // bits] = 1 << node % bits
    libc = ctypes.CDLL(None, use_errno=True)
    # The kernel expects the number of bits plus one.
    if libc.syscall(number, _MPOL_PREFERRED, mask, ctypes.c_ulong(words * bits + 1)):
        reason = os.strerror(ctypes.get_errno())
        raise DeviceError(
            f"--numa-node {node}: its memory cannot be preferred here ({reason}); use --cpus"
        )
