"""What each kernel of a CUDA graph costs beside its work.

    python -m gpu_stages.graph_nodes [--rows FILE]

A graph of hundreds of kernels that add up a few numbers, each of which needs what the one before it
wrote. Rows: microseconds per kernel, launched as usual, and launched while the one before still
runs (programmatic dependent launch, from sm_90).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from gpu_stages import rows
from gpu_stages.small_kernel import launch
from gpu_stages.target import Target, open_target, program_parser

_NODES = 256


def main() -> None:
    options = program_parser(__doc__).parse_args()
    target = open_target(practice=options.practice)
    numbers = torch.zeros(256, device=target.device)
    for name, work in variants(target, numbers).items():
        nodes = 2 if options.practice else _NODES
        numbers.zero_()
        replay = target.timer.record([work] * nodes)
        replay()
        seconds = min(target.timer.seconds(replay) for _ in range(5)) / nodes
        row = {"variant": name, "nodes": nodes, "us_per_node": round(1e6 * seconds, 3)}
        rows.append(options.rows, "graph node", {**row, "right": _is_right(numbers, nodes)})


def variants(target: Target, numbers: Tensor) -> dict[str, Callable[[], object]]:
    """Ways to launch a kernel that adds 1 to all numbers."""
    found: dict[str, Callable[[], object]] = {
        "torch": lambda: numbers.add_(1.0),
        "triton": partial(launch, numbers),
    }
    if target.chip.startswith("sm_") and int(target.chip.removeprefix("sm_")) >= 90:
        found["triton, programmatic"] = partial(launch, numbers, programmatic=True)
    return found


def _is_right(numbers: Tensor, nodes: int) -> bool:
    """Whether every kernel has seen what the one before it wrote: all numbers are equal, and a
    multiple of the kernels in a replay."""
    first = float(numbers[0])
    return bool((numbers == first).all()) and first > 0 and first % nodes == 0


if __name__ == "__main__":
    main()
