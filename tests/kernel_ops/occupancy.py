"""How many programs of a kernel a multiprocessor runs at the same time, from what one takes.

NVIDIA: CUDA C++ Programming Guide, "Technical Specifications per Compute Capability", and the
occupancy calculator: each of four partitions has 16384 registers, given to warps in units of 256,
and each program takes 1 KiB of shared memory more. AMD: CDNA3 ISA: each of four SIMDs has 512
vector registers a lane, given in units of 8, and the compute unit has 64 KiB of LDS.
"""

from __future__ import annotations

from typing import Any, NamedTuple

KIB = 1024


class Multiprocessor(NamedTuple):
    shared_memory: int
    """Bytes of all programs together."""
    reserved: int
    """Bytes of shared memory that a program takes beside its own."""
    warps: int
    """At the same time."""


MULTIPROCESSORS = {
    "sm_80": Multiprocessor(164 * KIB, KIB, 64),
    "sm_90": Multiprocessor(228 * KIB, KIB, 64),
    "gfx942": Multiprocessor(64 * KIB, 0, 32),
}
PARTITIONS = 4
"""Of a multiprocessor; each warp is in one."""
LANE_REGISTERS = 512
"""Of a partition, for each lane of a warp; given in units of 8."""


def programs_per_multiprocessor(kernel: dict[str, Any], num_warps: int, chip: str) -> int:
    """The occupancy.

    Args:
        kernel: its `registers` and `shared`, as recorded in resources/.
    """
    limits = MULTIPROCESSORS[chip]
    registers = -(-kernel["registers"] // 8) * 8
    warps = LANE_REGISTERS // registers * PARTITIONS
    by_memory = limits.shared_memory // max(1, kernel["shared"] + limits.reserved)
    return min(min(warps, limits.warps) // num_warps, by_memory)
