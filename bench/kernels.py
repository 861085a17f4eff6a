"""Time of every kernel at the shapes that are served, against what the GPU can do.

    python bench/kernels.py [OPERATION ...] [--rows FILE]
    python bench/kernels.py --list
    python bench/kernels.py paged_decode --tune

Each launch works on other memory than the one before, so that the L2 cache helps no kernel more
than it would a server; launches follow one another in a graph. The floor is the time that a copy of
as many bytes or a product of as many operations takes on this GPU, measured in the same run or read
from the file of rows. A kernel whose numbers are wrong is not timed.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from pathlib import Path

import torch

import glmserve_kernels
from glmserve_kernels.operation import Case, Operation
from glmserve_kernels.registry import NAMES, load
from glmserve_kernels.tiles import CHIPS, load_tiles
from gpu_ceilings import chip_name
from gpu_stages import rows
from gpu_stages.target import add_options, open_target
from kernel_bench import Bench, Row, dtype_of, faults, measure_case, served_cases, tune
from kernel_tuning import format_tiles

DTYPES = {"bfloat16": torch.bfloat16, "float16": torch.float16}


def main() -> int:
    options = parse_options()
    names = options.operations or list(NAMES)
    if options.list:
        return list_cases(names, options)
    target = open_target(practice=options.practice)
    ceilings = target.ceilings(options.rows)
    dtype = DTYPES[options.dtype]
    bench = Bench(target.device, target.chip, target.timer, ceilings, target.l2_bytes, dtype)
    print(
        f"{target.description['gpu']}: copies {ceilings.copy_bytes / 1e12:.2f} TB/s, "
        f"{ceilings.bf16_flops / 1e12:.0f} TFLOP/s in bfloat16\n{HEADER}"
    )
    failed = False
    for name in names:
        operation = load(name)
        cases = served_cases(operation, bench.chip)
        if options.practice:
            cases = list(operation.cases[:1])  # an interpreter would take hours for the served ones
        for outcome in run(operation, cases, bench, tuning=options.tune):
            if isinstance(outcome, str):
                failed = True
                print(f"error: {outcome}", file=sys.stderr, flush=True)
                rows.append(options.rows, "kernel error", {"operation": name, "error": outcome})
            else:
                print(line(outcome), flush=True)
                rows.append(options.rows, "kernel", outcome)
    return 1 if failed else 0


def parse_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("operations", nargs="*", metavar="OPERATION", help="default: all")
    add_options(parser)
    parser.add_argument("--dtype", choices=DTYPES, default="bfloat16", help="of activations")
    parser.add_argument("--list", action="store_true", help="only say what would be measured")
    parser.add_argument("--chip", choices=CHIPS, help="for --list; default: this GPU, or sm_90")
    parser.add_argument(
        "--tune",
        action="store_true",
        help="look for better tiles first, and write them to the operation's tiles.json",
    )
    options = parser.parse_args()
    unknown = set(options.operations) - set(NAMES)
    if unknown:
        parser.error(f"no operation {', '.join(sorted(unknown))}; there are {', '.join(NAMES)}")
    return options


def list_cases(names: list[str], options: argparse.Namespace) -> int:
    chip = options.chip or (chip_name() if torch.cuda.is_available() else "sm_90")
    for name in names:
        operation = load(name)
        for case in served_cases(operation, chip):
            dtype = dtype_of(case, DTYPES[options.dtype])
            print(f"{name:<24}{case.name:<44}{str(dtype).removeprefix('torch.')}")
    return 0


def run(
    operation: Operation, cases: list[Case], bench: Bench, *, tuning: bool
) -> Iterator[Row | str]:
    """Check, tune if wanted, and measure one operation: figures as they come, and what is wrong."""
    try:
        if wrong := faults(operation, bench, load_tiles(operation.name, bench.chip)):
            yield from wrong
            return
        if tuning:
            write_tiles(operation, bench)
    except Exception as error:  # of a kernel, or of the compiler: the shapes may still work
        yield f"{operation.name}: {type(error).__name__}: {error}"
    for case in cases:
        try:
            yield measure_case(operation, case, bench)
        except Exception as error:  # one case's trouble is not the others'
            yield f"{operation.name} {case.name}: {type(error).__name__}: {error}"
        if bench.device.type == "cuda":
            torch.cuda.empty_cache()


def write_tiles(operation: Operation, bench: Bench) -> None:
    """Put what tuning found into the operation's tiles.json, and say it.

    Raises:
        LookupError: the chip has no tiles of its own.
    """
    if bench.chip not in CHIPS:
        raise LookupError(f"{bench.chip} has no tiles of its own, only {', '.join(CHIPS)} have")
    tiles, changes = tune(operation, bench)
    for change in changes:
        print(f"  {operation.name} {change}")
    path = Path(glmserve_kernels.__file__).parent / operation.name / "tiles.json"
    text = format_tiles({**json.loads(path.read_text()), bench.chip: tiles})
    path.write_text(text)
    print(f"{path}:\n{text}", flush=True)


HEADER = (
    f"{'operation':<24}{'case':<40}{'us':>9}{'GB/s':>8}{'TFLOP/s':>9}{'of floor':>9}  "
    f"{'bound by':<10}{'over torch':>10}"
)


def line(row: Row) -> str:
    """A row of the table; a star: so little data that the L2 cache holds it all."""
    case = row["case"] + ("*" if row["in_l2"] else "")
    text = (
        f"{row['operation']:<24}{case:<40}{row['us']:>9.1f}{row['gigabytes_per_second']:>8.0f}"
        f"{row['teraflops']:>9.1f}{row['fraction']:>9.0%}  {row['bound']:<10}"
    )
    if "torch" in row:
        return f"{text}{row['torch_ratio']:>9.2f}x  {row['torch']}"
    return text + row.get("torch_error", "")[:60]


if __name__ == "__main__":
    sys.exit(main())
