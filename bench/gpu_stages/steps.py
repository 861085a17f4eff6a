"""A model's steps in this process, without a server: their time, the host's share, their kernels.

    python -m gpu_stages.steps [--rows FILE] [--quantization int8] [--profile]
    python -m gpu_stages.steps --few-rows apart [--rows FILE]

ChatGLM2-6B's shape with random weights. Each case runs some steps, each queued before its
predecessor has ended, as a server does. Rows: "step" with the time of a step, its floor, and the
host's time to queue it; with --profile "kernel in a step" with the time of each kernel. --few-rows
runs steps of up to 64 rows otherwise than kernels/glmserve_kernels/few_rows/tiles.json says:
`fused` by the kernels for few rows (MOST_ROWS 64); `apart` as longer ones, operation by operation
(MOST_ROWS 0); `programmatic` with launches that start while the kernel before ends (PROGRAMMATIC
1), from sm_90 on.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import NamedTuple
from unittest.mock import patch

import numpy as np
import torch

from chatglm2_checkpoint import CONFIG
from glmserve.config import RunnerConfig, report_nothing
from glmserve.contract.step import (
    PLACEHOLDER_TOKEN_ID,
    PendingOutput,
    SamplingInput,
    ScheduledSequence,
    StepInput,
)
from glmserve.devices.registry import select_device
from glmserve.runner.gpu_runner import GpuRunner
from glmserve_kernels.few_rows.plan import ROWS
from gpu_ceilings import Ceilings
from gpu_stages import rows
from gpu_stages.target import Target, open_target, program_parser
from step_floor import SHAPES, decode_seconds, prefill_seconds

_SHAPE = SHAPES["chatglm2-6b"]
_GREEDY = SamplingInput()
_TOKEN = 5
_PRACTICE_CHECKPOINT = Path(__file__).parents[2] / "tests" / "goldens" / "glm2_base"
_WEIGHT_BYTES = {None: 2.0, "int8": 1.0, "fp8": 1.0, "int4": 0.5}
_KERNELS_LISTED = 20
_FIRST_PROGRAMMATIC = 90
"""The first sm number."""
_FEW_ROWS: dict[str | None, Callable[[], AbstractContextManager[object]]] = {
    None: nullcontext,
    "fused": lambda: patch("glmserve.ops.gpu.few_rows.most_rows", return_value=ROWS),
    "apart": lambda: patch("glmserve.ops.gpu.few_rows.most_rows", return_value=0),
    "programmatic": lambda: patch("glmserve.ops.gpu.few_rows.is_programmatic", return_value=True),
}
"""What to change in the table."""


class Case(NamedTuple):
    """One kind of step."""

    name: str
    decodes: int
    context: int
    """Tokens that each decode attends to."""
    prompt: int = 0
    """Tokens of a whole prompt beside them."""
    repeats: int = 20


CASES = [
    Case("1 decode", 1, 1024),
    Case("16 decodes", 16, 1024),
    Case("32 decodes", 32, 1024),
    Case("64 decodes", 64, 1024),
    Case("256 decodes", 256, 1024),
    Case("64 decodes and a prompt of 448", 64, 1024, 448),
    Case("a prompt of 512", 0, 0, 512, repeats=8),
    Case("a prompt of 2048", 0, 0, 2048, repeats=5),
]
PRACTICE_CASES = [
    Case("1 decode", 1, 16, repeats=2),
    Case("2 decodes", 2, 16, repeats=2),
    Case("1 decode and a prompt of 4", 1, 16, 4, repeats=1),
    Case("a prompt of 8", 0, 0, 8, repeats=1),
]


@contextmanager
def loaded(target: Target, options: argparse.Namespace) -> Iterator[GpuRunner]:
    """The runner that a server would have."""
    with _FEW_ROWS[options.few_rows]():
        if target.practice:
            from support import emulated_gpu

            runner = emulated_gpu.load(_PRACTICE_CHECKPOINT)
        else:
            runner = _load(options)
    yield runner
    runner.close()


def _load(options: argparse.Namespace) -> GpuRunner:
    device = select_device("rocm" if torch.version.hip else "cuda")
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "config.json").write_text(json.dumps({**CONFIG, "torch_dtype": "bfloat16"}))
        config = RunnerConfig(
            checkpoint=folder,
            device=device.name,
            dtype="bfloat16",
            load_format="dummy",
            quantization=options.quantization,
            max_batch_size=max(case.decodes for case in CASES),
            max_step_tokens=2048,
            kv_cache_tokens=2**19,
        )
        runner: GpuRunner = device.create_runner(config, report_nothing)
        return runner


class Steps:
    """Makes the steps of a case. Every sequence has blocks of its own, in any order."""

    def __init__(self, case: Case, block_size: int, num_blocks: int) -> None:
        self._case = case
        room = -(-(case.context + case.repeats + 2) // block_size)
        order = np.random.default_rng(0).permutation(num_blocks).astype(np.int32)
        self._tables = [order[i * room : (i + 1) * room].tobytes() for i in range(case.decodes)]
        used = case.decodes * room
        self._prompt_table = order[used : used + -(-max(case.prompt, 1) // block_size)].tobytes()
        self._number = 0

    def next(self) -> StepInput:
        """The step after the last one: every context has grown by one token."""
        case, number = self._case, self._number
        token = PLACEHOLDER_TOKEN_ID if number else _TOKEN
        start = case.context - 1 + number
        sequences = [
            ScheduledSequence(i, [token], start, table, _GREEDY)
            for i, table in enumerate(self._tables)
        ]
        if case.prompt:
            prompt = [_TOKEN + i % 1000 for i in range(case.prompt)]
            other = case.decodes + number
            sequences.append(ScheduledSequence(other, prompt, 0, self._prompt_table, _GREEDY))
        self._number += 1
        return StepInput(number, sequences)


def measure_steps(runner: GpuRunner, case: Case) -> tuple[float, float]:
    """Seconds from one step's output to the next one's, and of the host in `execute`: medians."""
    limits = runner.info.limits
    steps = Steps(case, limits.block_size, limits.num_blocks)
    waiting = runner.execute(steps.next())
    ends, hosts = [], []
    for _ in range(case.repeats):
        step = steps.next()
        begin = time.perf_counter()
        following: PendingOutput = runner.execute(step)
        hosts.append(time.perf_counter() - begin)
        waiting()
        ends.append(time.perf_counter())
        waiting = following
    waiting()
    ends.append(time.perf_counter())
    return median(b - a for a, b in pairwise(ends)), median(hosts)


def floor_of(case: Case, ceilings: Ceilings, weight_bytes: float) -> float:
    """The least seconds of a step. Beside decodes a prompt does not read the weights again."""
    if not case.prompt:
        return decode_seconds(_SHAPE, case.decodes, case.context, ceilings, weight_bytes)
    prompt = prefill_seconds(_SHAPE, 1, case.prompt, ceilings, weight_bytes)
    if not case.decodes:
        return prompt
    return max(prompt, decode_seconds(_SHAPE, case.decodes, case.context, ceilings, weight_bytes))


def profile(runner: GpuRunner, case: Case, target: Target) -> list[rows.Row]:
    """The kernels of a step that take the most time: microseconds and launches in one step."""
    activity = torch.profiler.ProfilerActivity
    kind = activity.CPU if target.practice else activity.CUDA
    with torch.profiler.profile(activities=[kind]) as found:
        measure_steps(runner, case)
    executed = case.repeats + 1
    by_name = [
        (event.self_cpu_time_total if target.practice else event.self_device_time_total, event)
        for event in found.key_averages()
    ]
    by_name.sort(key=lambda item: -item[0])
    return [
        {
            "step": case.name,
            "kernel": event.key[:80],
            "us": round(us / executed, 1),
            "launches": round(event.count / executed, 1),
        }
        for us, event in by_name[:_KERNELS_LISTED]
        if us
    ]


def _is_programmatic(chip: str) -> bool:
    return chip.startswith("sm_") and int(chip.removeprefix("sm_")) >= _FIRST_PROGRAMMATIC


def main() -> None:
    parser = program_parser(__doc__)
    parser.add_argument("--quantization", choices=[name for name in _WEIGHT_BYTES if name])
    parser.add_argument("--few-rows", choices=[name for name in _FEW_ROWS if name])
    parser.add_argument("--profile", action="store_true", help="also list the kernels of a step")
    options = parser.parse_args()
    target = open_target(practice=options.practice)
    ceilings = target.ceilings(options.rows)
    cases = PRACTICE_CASES if options.practice else CASES
    format_name = options.quantization or "bfloat16"
    if options.few_rows:
        few = [case for case in cases if case.decodes + case.prompt <= ROWS]
        cases = few[:1] if options.practice else few
        format_name += f", {options.few_rows}"
    if options.few_rows == "programmatic" and not _is_programmatic(target.chip):
        print(f"{target.chip} has no programmatic launches")
        return
    with loaded(target, options) as runner:
        for case in cases:
            measure_steps(runner, case._replace(repeats=2))  # sets up libraries
            seconds, host = measure_steps(runner, case)
            floor = floor_of(case, ceilings, _WEIGHT_BYTES[options.quantization])
            row = {"step": case.name, "weights": format_name, "ms": round(1e3 * seconds, 3)}
            row |= {"host_ms": round(1e3 * host, 3), "floor_ms": round(1e3 * floor, 3)}
            rows.append(options.rows, "step", {**row, "fraction": round(floor / seconds, 3)})
        for case in cases if options.profile else []:
            for found in profile(runner, case._replace(repeats=min(case.repeats, 5)), target):
                rows.append(options.rows, "kernel in a step", {"weights": format_name, **found})


if __name__ == "__main__":
    main()
