"""The GPU to measure on; or, for practice, the CPU in its place."""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from gpu_ceilings import Ceilings, chip_name, describe_gpu, measure
from gpu_stages import rows
from gpu_timing import CudaTimer, Launch, Timer

_PRACTICE_CHIP = "sm_80"
"""Its tiles are the smallest, and Triton's interpreter takes its time for each program."""


class HostTimer:
    """Work on the CPU, by the clock. Its times only show that the programs run."""

    def record(self, launches: Sequence[Launch]) -> Launch:
        def replay() -> None:
            for launch in launches:
                launch()

        return replay

    def seconds(self, work: Launch) -> float:
        begin = time.perf_counter()
        work()
        return max(time.perf_counter() - begin, 1e-3)  # so that few repeats are enough


@dataclass(frozen=True)
class Target:
    device: torch.device
    chip: str
    """ "sm_90", "gfx942"."""
    timer: Timer
    l2_bytes: int
    practice: bool
    """Nothing is a GPU's: shapes are small, and figures mean nothing."""
    description: dict[str, Any]

    def ceilings(self, file: Path | None) -> Ceilings:
        """Those that an earlier stage wrote to the file of rows; else they are measured."""
        for row in rows.read(file) if file else []:
            if row["kind"] == "ceilings":
                return Ceilings(row["copy_bytes"], row["bf16_flops"])
        return measure(self.timer, str(self.device), 64 if self.practice else 8192)


def open_target(*, practice: bool) -> Target:
    """The first GPU.

    Raises:
        SystemExit: torch finds none.
    """
    if practice:
        import triton
        from interpreter import install

        install()  # of the tests: without it bfloat16 is wrong
        versions = {"torch": torch.__version__, "triton": triton.__version__}
        names = {"gpu": "practice", "chip": _PRACTICE_CHIP, **versions}
        return Target(torch.device("cpu"), _PRACTICE_CHIP, HostTimer(), 2**16, True, names)
    if not torch.cuda.is_available():
        raise SystemExit("error: torch finds no GPU; --practice runs without")
    found = describe_gpu()
    l2_bytes = int(str(found["l2_bytes"]))
    return Target(torch.device("cuda", 0), chip_name(), CudaTimer(), l2_bytes, False, found)


def program_parser(description: str | None) -> argparse.ArgumentParser:
    """The parser of a program of the stages, described by its docstring."""
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_options(parser)
    return parser


def add_options(parser: argparse.ArgumentParser) -> None:
    """--rows and --practice, which all programs of the stages have."""
    parser.add_argument("--rows", type=Path, metavar="FILE", help="append the figures to it")
    parser.add_argument(
        "--practice",
        action="store_true",
        help="small shapes on the CPU; with TRITON_INTERPRET=1 in the environment",
    )
