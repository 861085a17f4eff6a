"""Measures operations of glmserve_kernels on a GPU, and finds tiles for it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch

from glmserve_kernels.operation import Arguments, Case, Operation
from glmserve_kernels.tiles import Tiles, load_tiles
from gpu_ceilings import Ceilings, floor_seconds
from gpu_timing import Launch, Timer, rotation, seconds_per_launch
from kernel_arguments import DeviceMaker, copies, fit, held_bytes, is_for
from kernel_baselines import baseline
from kernel_check import check_operation, check_served
from kernel_tuning import FIXED, Constants, NotingTiles, climb, geometric_mean, launched_kernels

CHECKED_BYTES = 2**30
"""Served cases up to this size are also compared with their reference."""
TUNED_BYTES = 2**31
"""Larger cases are measured, but tiles are not tried on them."""

Row = dict[str, Any]
"""What was measured of one case."""


@dataclass(frozen=True)
class Bench:
    """The GPU to measure on."""

    device: torch.device
    chip: str
    timer: Timer
    ceilings: Ceilings
    l2_bytes: int
    dtype: torch.dtype = torch.bfloat16
    """Of activations, where a case has it."""

    def free_bytes(self) -> int:
        if self.device.type != "cuda":
            return 2**30
        torch.cuda.empty_cache()
        return torch.cuda.mem_get_info()[0]

    def maker(self, case: Case, seed: int = 0) -> DeviceMaker:
        return DeviceMaker(self.device, dtype_of(case, self.dtype), seed)


def dtype_of(case: Case, wanted: torch.dtype) -> torch.dtype:
    """The dtype to measure a case in."""
    return wanted if wanted in case.dtypes else case.dtypes[0]


def served_cases(operation: Operation, chip: str) -> list[Case]:
    """Those that are made for the chip."""
    return [case for case in operation.served if is_for(case, operation, chip)]


def faults(operation: Operation, bench: Bench, tiles: Tiles) -> list[str]:
    """What is wrong with its numbers: small and odd cases."""
    return check_operation(operation, bench.chip, bench.device, tiles)


def measure_case(operation: Operation, case: Case, bench: Bench) -> Row:
    """Time of one launch against the GPU's ceilings, and against torch's own way.

    Raises:
        ArithmeticError: its results are wrong at this size.
    """
    tiles = load_tiles(operation.name, bench.chip)
    arguments = fit(operation.name, case.make(bench.maker(case)), tiles)
    held = held_bytes(arguments)
    if held <= CHECKED_BYTES:
        wrong = check_served(operation, case, bench.maker(case, seed=1), tiles)
        if wrong:
            raise ArithmeticError("; ".join(wrong))
    work = operation.work(**arguments)
    count = rotation(work.bytes, held, bench.l2_bytes, bench.free_bytes())
    sets = list(copies(arguments, count))
    seconds = seconds_of(operation, sets, tiles, bench.timer)
    floor, bound = floor_seconds(work.bytes, work.flops, bench.ceilings)
    return {
        "operation": operation.name,
        "case": case.name,
        "dtype": str(dtype_of(case, bench.dtype)).removeprefix("torch."),
        "us": 1e6 * seconds,
        "gigabytes_per_second": work.bytes / seconds / 1e9,
        "teraflops": work.flops / seconds / 1e12,
        "floor_us": 1e6 * floor,
        "bound": bound,
        "fraction": floor / seconds,
        "sets": count,
        "in_l2": count * work.bytes < 2 * bench.l2_bytes,
        **_compare(operation.name, sets, seconds, bench),
    }


def seconds_of(
    operation: Operation, sets: list[Arguments], tiles: Tiles, timer: Timer, budget: float = 0.2
) -> float:
    """Time of one launch, whose inputs are what they were if it overwrites them.

    They are then copied to their place just before, so that the L2 may hold them: as it does when
    the step before has just written them.
    """
    launches: list[Launch] = [partial(operation.launch, **item, tiles=tiles) for item in sets]
    restores = [restore for item in sets if (restore := _restore(operation, item)) is not None]
    if not restores:
        return seconds_per_launch(launches, timer, budget)
    both = [work for pair in zip(restores, launches, strict=True) for work in pair]
    return 2 * seconds_per_launch(both, timer, budget) - seconds_per_launch(restores, timer, budget)


def _restore(operation: Operation, arguments: Arguments) -> Launch | None:
    """Puts back what the operation reads from its scratch; None: it reads nothing there."""
    scratch = [arguments[name] for name in operation.scratch if arguments[name] is not None]
    read = [(tensor, tensor.clone()) for tensor in scratch if not tensor.isnan().all()]
    if not read:
        return None

    def restore() -> None:
        for tensor, before in read:
            tensor.copy_(before)

    return restore


def _compare(operation: str, sets: list[Arguments], seconds: float, bench: Bench) -> Row:
    """torch's time for the same work, over ours; or why there is none."""
    try:
        found = [baseline(operation, arguments) for arguments in sets]
        known = [item for item in found if item is not None]
        if not known:
            return {}
        theirs = seconds_per_launch([launch for _, launch in known], bench.timer)
    except (RuntimeError, ValueError) as error:  # also torch.OutOfMemoryError
        return {"torch_error": str(error).splitlines()[0]}
    return {"torch": known[0][0], "torch_us": 1e6 * theirs, "torch_ratio": theirs / seconds}


def tune(operation: Operation, bench: Bench) -> tuple[dict[str, Constants], list[str]]:
    """Constants of all shape classes, better ones where some were found; and what was changed."""
    tiles = {name: dict(value) for name, value in load_tiles(operation.name, bench.chip).items()}
    fixed = FIXED.get(operation.name, set())
    changes = []
    for shape_class, arguments in _by_class(operation, bench, tiles).items():
        cost = partial(_cost, operation, bench, tiles, shape_class, arguments)
        best = climb(tiles[shape_class], cost, fixed)
        if best == tiles[shape_class]:
            continue
        gain = cost(tiles[shape_class]) / cost(best)
        changed = {**tiles, shape_class: best}
        if wrong := faults(operation, bench, changed):
            changes.append(f"{shape_class}: {best} not taken, {wrong[0]}")
            continue
        tiles = changed
        changes.append(f"{shape_class}: {best}, {gain:.2f} times as fast")
    return tiles, changes


def _by_class(operation: Operation, bench: Bench, tiles: Tiles) -> dict[str, list[Arguments]]:
    """Arguments of the served cases, by the shape classes that they use."""
    found: dict[str, list[Arguments]] = {}
    for case in served_cases(operation, bench.chip):
        arguments = case.make(bench.maker(case))
        if held_bytes(arguments) > TUNED_BYTES:
            continue
        noting = NotingTiles(tiles)
        operation.launch(**fit(operation.name, arguments, noting), tiles=noting)
        for shape_class in noting.used:
            found.setdefault(shape_class, []).append(arguments)
    return found


def _cost(
    operation: Operation,
    bench: Bench,
    tiles: Tiles,
    shape_class: str,
    arguments: list[Arguments],
    constants: Constants,
) -> float:
    """Mean seconds of a launch with these constants; infinite if it fails or spills registers."""
    changed = {**tiles, shape_class: constants}
    try:
        return geometric_mean(list(_seconds(operation, bench, changed, arguments)))
    except Exception as error:  # the compiler has many
        print(f"  {operation.name} {shape_class} {constants}: {type(error).__name__}")
        return float("inf")


def _seconds(
    operation: Operation, bench: Bench, tiles: Tiles, cases: list[Arguments]
) -> Iterator[float]:
    for arguments in cases:
        refit = fit(operation.name, arguments, tiles)
        with launched_kernels() as kernels:
            operation.launch(**refit, tiles=tiles)
        if any(kernel.n_spills for kernel in kernels):
            yield float("inf")
            continue
        work = operation.work(**refit)
        count = rotation(work.bytes, held_bytes(refit), bench.l2_bytes, bench.free_bytes())
        sets = list(copies(refit, min(count, 8)))
        yield seconds_of(operation, sets, tiles, bench.timer, budget=0.05)
