"""What a GPU really gives: copied bytes per second, and bfloat16 products per second.

    python bench/gpu_ceilings.py

All other figures are read against these two. Datasheets promise more.
"""

from __future__ import annotations

import argparse
import sys
from statistics import median
from typing import NamedTuple

import torch

from gpu_timing import CudaTimer, Launch, Timer

_SIDE = 8192
_REPEATS = 20


class Ceilings(NamedTuple):
    """Of one GPU, measured."""

    copy_bytes: float
    """Per second, read and written bytes counted both."""
    bf16_flops: float
    """Per second, of a matrix product of random numbers."""


def measure(timer: Timer | None = None, device: str = "cuda", side: int = _SIDE) -> Ceilings:
    """A copy of gigabytes, and a product of two matrices of `side`."""
    timer = timer or CudaTimer()
    return Ceilings(_copy_bytes(timer, device), _product_flops(timer, device, side))


def _copy_bytes(timer: Timer, device: str) -> float:
    free = torch.cuda.mem_get_info()[0] if device == "cuda" else 2**24
    source = torch.randint(-128, 128, (min(2**32, free // 4),), dtype=torch.int8, device=device)
    target = torch.empty_like(source)
    return 2 * source.nbytes / _median_seconds(timer, lambda: target.copy_(source))


def _product_flops(timer: Timer, device: str, side: int) -> float:
    # Products of zeros would need less power and run faster.
    a, b = torch.randn(2, side, side, device=device).to(torch.bfloat16)
    out = torch.empty_like(a)
    return 2 * side**3 / _median_seconds(timer, lambda: torch.mm(a, b, out=out))


def floor_seconds(num_bytes: int, flops: int, ceilings: Ceilings) -> tuple[float, str]:
    """The least time that work can take, and what bounds it: "memory" or "compute".

    The roofline model: Williams, Waterman, Patterson, Communications of the ACM 52(4), 2009.
    """
    memory, compute = num_bytes / ceilings.copy_bytes, flops / ceilings.bf16_flops
    return (memory, "memory") if memory >= compute else (compute, "compute")


def _median_seconds(timer: Timer, work: Launch) -> float:
    for _ in range(3):
        work()
    return median(timer.seconds(work) for _ in range(_REPEATS))


def describe_gpu() -> dict[str, object]:
    """Name, chip and size of the first GPU, and the versions that matter."""
    import triton

    properties = torch.cuda.get_device_properties(0)
    return {
        "gpu": properties.name,
        "chip": chip_name(),
        "multiprocessors": properties.multi_processor_count,
        "memory_bytes": properties.total_memory,
        "l2_bytes": properties.L2_cache_size,
        "torch": torch.__version__,
        "cuda": torch.version.cuda or torch.version.hip,
        "triton": triton.__version__,
    }


def chip_name() -> str:
    """ "sm_90", "gfx942": of the first GPU."""
    if torch.version.hip:
        return str(torch.cuda.get_device_properties(0).gcnArchName.split(":")[0])
    major, minor = torch.cuda.get_device_capability(0)
    return f"sm_{major}{minor}"


def main() -> int:
    argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    ).parse_args()
    if not torch.cuda.is_available():
        print("gpu_ceilings.py: error: torch finds no GPU", file=sys.stderr)
        return 1
    found = measure()
    print(
        f"{torch.cuda.get_device_name(0)}: copies {found.copy_bytes / 1e12:.2f} TB/s, "
        f"{found.bf16_flops / 1e12:.0f} TFLOP/s in bfloat16"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
