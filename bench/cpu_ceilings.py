"""What the CPU gives: bytes read, and bfloat16 and int8 operations per second.

    python bench/cpu_ceilings.py [--threads N] [--json FILE]

Every figure is the best of several tries: what disturbs a machine only ever makes it slower. It is
also the best of several programs, glmserve's own products among them.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from glmserve_cpu_kernels.library import Library, UnavailableError, load
from glmserve_cpu_kernels.linear import pack_codes, pack_floats

_READ_BYTES = 2**30
_SIDE = 4096
_ROWS = 512
"""That glmserve multiplies at once, as in a step."""
_REPEATS = 7

Clock = Callable[[], float]


class CpuCeilings(NamedTuple):
    """Of some threads together, measured."""

    read_bytes: float
    """Per second, of memory far larger than the caches."""
    bf16_flops: float
    """Per second, of a matrix product."""
    int8_operations: float
    """Per second, of a matrix product of int8 numbers with int32 sums."""


def measure(
    read_bytes: int = _READ_BYTES,
    side: int = _SIDE,
    repeats: int = _REPEATS,
    clock: Clock = time.perf_counter,
) -> CpuCeilings:
    """With as many threads as torch has."""

    def rate(amount: float, ways: list[Callable[[], object]]) -> float:
        return amount / min(_best(way, repeats, clock) for way in ways)

    return CpuCeilings(
        rate(read_bytes, _readings(read_bytes)),
        rate(2 * side**3, _bf16_products(side)),
        rate(2 * side**3, _int8_products(side)),
    )


def _readings(num_bytes: int) -> list[Callable[[], object]]:
    """Ways to read everything once; which is fastest depends on the machine."""
    columns = 4096
    numbers = _on_huge_pages(num_bytes).view(torch.float32).view(-1, columns).fill_(1.0)
    vector = torch.ones(columns)
    ways: list[Callable[[], object]] = [lambda: numbers.sum(), lambda: torch.mv(numbers, vector)]
    if library := _own_kernels():
        own = pack_floats(library, numbers)
        row = vector.view(1, columns)
        ways.append(lambda: own(row))
    return ways


def _on_huge_pages(num_bytes: int) -> Tensor:
    """Memory for a tensor, uint8. With small pages the system's look-ups would be measured, too."""
    try:
        return load().weights_memory.take(num_bytes)
    except UnavailableError:
        return torch.empty(num_bytes, dtype=torch.uint8)


def _bf16_products(side: int) -> list[Callable[[], object]]:
    a, b = torch.randn(2, side, side).to(torch.bfloat16)
    ways: list[Callable[[], object]] = [lambda: torch.mm(a, b)]
    if library := _own_kernels():
        own = pack_floats(library, b)
        ways.append(lambda: [own(rows) for rows in a.split(_ROWS)])
    return ways


def _int8_products(side: int) -> list[Callable[[], object]]:
    a, b = torch.randint(-128, 128, (2, side, side), dtype=torch.int8)
    ways: list[Callable[[], object]] = [lambda: torch._int_mm(a, b)]
    if library := _own_kernels():
        own = pack_codes(library, b, torch.ones(side, 1), bits=8, activation_bits=8)
        x = a.to(torch.bfloat16)
        ways.append(lambda: [own(rows) for rows in x.split(_ROWS)])
    return ways


def _own_kernels() -> Library | None:
    """With as many threads as torch has."""
    try:
        library = load()
    except UnavailableError:
        return None
    library.set_threads(torch.get_num_threads())
    return library


def _best(work: Callable[[], object], repeats: int, clock: Clock) -> float:
    work()
    seconds = []
    for _ in range(repeats):
        start = clock()
        work()
        seconds.append(clock() - start)
    return min(seconds)


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--json", type=Path, metavar="FILE")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    found = measure()
    print(
        f"{options.threads} threads: read {found.read_bytes / 1e9:.1f} GB/s, "
        f"{found.bf16_flops / 1e9:.0f} GFLOP/s in bfloat16, "
        f"{found.int8_operations / 1e9:.0f} GOP/s in int8"
    )
    if options.json:
        options.json.write_text(json.dumps(found._asdict(), indent=2) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
