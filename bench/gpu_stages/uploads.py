"""Whether a copy to the GPU waits for the kernel that runs there.

    python -m gpu_stages.uploads [--rows FILE]

A step's inputs are uploaded while the step before it runs. Each row says how long the host was busy
with one copy that does not wait, from pageable and from pinned memory, behind a kernel of some
milliseconds: as long as the kernel means that the copy waited for it.
"""

from __future__ import annotations

import time
from statistics import median

import torch
from torch import Tensor

from gpu_stages import rows
from gpu_stages.target import Target, open_target, program_parser

_SIZES = (2**10, 2**14, 2**16, 2**18, 2**20)
"""Bytes: the inputs of a decode step have some KB, the tokens of a long prompt more."""
_REPEATS = 7
_SIDE = 8192
"""Of two square matrices, whose product takes some milliseconds."""


def host_seconds(target: Target, source: Tensor, busy: Tensor | None) -> float:
    """Median time that one copy holds the host up.

    Args:
        source: on the CPU.
        busy: the product of this matrix with itself runs meanwhile; None: nothing does.
    """
    copy = torch.empty_like(source, device=target.device)
    product = None if busy is None else torch.empty_like(busy)
    found = []
    for _ in range(_REPEATS + 1):
        _synchronize(target)
        if busy is not None:
            torch.mm(busy, busy, out=product)
        begin = time.perf_counter()
        copy.copy_(source, non_blocking=True)
        found.append(time.perf_counter() - begin)
    _synchronize(target)
    return median(found[1:])


def _synchronize(target: Target) -> None:
    if target.device.type == "cuda":
        torch.cuda.synchronize()


def main() -> None:
    options = program_parser(__doc__).parse_args()
    target = open_target(practice=options.practice)
    side = 64 if options.practice else _SIDE
    busy = torch.randn(side, side, device=target.device).to(torch.bfloat16)
    kernel_us = 1e6 * target.timer.seconds(lambda: busy @ busy)
    for size in _SIZES:
        pageable = torch.zeros(size, dtype=torch.uint8)
        memory = {"pageable": pageable}
        if target.device.type == "cuda":
            memory["pinned"] = pageable.pin_memory()
        for kind, source in memory.items():
            idle, behind = (1e6 * host_seconds(target, source, b) for b in (None, busy))
            row = {"memory": kind, "bytes": size, "idle_us": round(idle, 1)}
            row |= {"behind_us": round(behind, 1), "kernel_us": round(kernel_us)}
            rows.append(options.rows, "upload", {**row, "waited": behind > kernel_us / 2})


if __name__ == "__main__":
    main()
