"""Compiles the kernels that may start while the one before them ends, and checks that they wait.

    python tests/kernel_ops/programmatic.py

For sm_90, the first chip with such launches. Before the wait a program may fetch a weight into the
L2 cache, and must not read or write memory.
"""

from __future__ import annotations

import re
import sys

import torch
from compiler import CHIPS, compiling_for, faults, resources

from glmserve_kernels.operation import Maker
from glmserve_kernels.registry import load
from glmserve_kernels.tiles import load_tiles

CHIP = "sm_90"
OPERATIONS = ("matmul_add", "norm_matmul_silu", "norm_matmul_rope")
_ACCESS = re.compile(r"\b(ld\.(?!param)|st\.|cp\.async|atom|red\.)")
_PREFETCH = "prefetch.global.L2"
_WAIT = "griddepcontrol.wait"


def check(name: str) -> tuple[int, list[str]]:
    """How many kernels an operation has, and what is wrong with them."""
    operation, count, wrong = load(name), 0, []
    for case in operation.served:
        if CHIP not in (case.chips or operation.chips):
            continue
        arguments = case.make(Maker(torch.device("meta"), torch.bfloat16))
        with compiling_for(CHIPS[CHIP].target) as kernels:
            operation.launch(**arguments, tiles=load_tiles(name, CHIP), programmatic=True)
        for kernel in kernels:
            count += 1
            label = f"{name} {case.name}"
            wrong += faults(label, resources(kernel, CHIP), CHIP)
            wrong += [f"{label}: {fault}" for fault in early_accesses(kernel.asm["ptx"])]
    return count, wrong


def early_accesses(code: str) -> list[str]:
    """What is wrong before the wait."""
    if code.count(_WAIT) != 1:
        return [f"{code.count(_WAIT)} waits"]
    before = code.partition(_WAIT)[0]
    found = [line.strip() for line in before.splitlines() if _ACCESS.search(line)]
    branches = [line.strip() for line in before.splitlines() if re.search(r"\b(bra|ret)\b", line)]
    missing = [] if _PREFETCH in before else ["nothing is fetched"]
    return [*found, *branches, *missing]


def main() -> int:
    total, faulty = 0, []
    for name in OPERATIONS:
        count, wrong = check(name)
        total += count
        faulty += wrong
    print(*faulty, sep="\n", end="\n" * bool(faulty), file=sys.stderr)
    print(f"{total} kernels wait before they read")
    return 1 if faulty else 0


if __name__ == "__main__":
    sys.exit(main())
