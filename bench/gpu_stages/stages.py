"""What bench/gpu.sh runs, in order: the first stages fit into a short first call."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import NamedTuple

from glmserve_kernels.registry import NAMES

_PYTEST = ("-m", "pytest", "-v", "--tb=short", "-W", "default", "-p", "no:cacheprovider")
_TESTS = (
    *(*_PYTEST, "-p", "no:benchmark", "-p", "support.cuda_errors"),
    *("-o", "timeout=40", "-o", "faulthandler_timeout=30", "-m", ""),
)
"""Each failure is named as it comes, and a CUDA error ends only the process that it happened in."""


class Command(NamedTuple):
    """One process of a stage."""

    name: str
    """Of the stage, a slash, and what is particular."""
    limit: float
    """Seconds."""
    arguments: tuple[str, ...]
    """Of Python."""

    @property
    def stage(self) -> str:
        return self.name.partition("/")[0]


class _Programs:
    """Commands of the programs beside this file and above it.

    Args:
        rows: the file for their figures.
        practice: without a GPU.
    """

    def __init__(self, rows: Path, *, practice: bool) -> None:
        self._options = ("--rows", str(rows), *(["--practice"] if practice else []))

    def module(self, name: str, *more: str) -> tuple[str, ...]:
        """One of this package."""
        return ("-m", f"gpu_stages.{name}", *self._options, *more)

    def script(self, path: str, *more: str) -> tuple[str, ...]:
        """One of the checkout."""
        return (path, *more, *self._options)


def commands(rows: Path, *, practice: bool) -> list[Command]:
    """All commands, in order.

    Args:
        rows: the file for figures.
        practice: without a GPU: tests run in Triton's interpreter, the rest on the CPU, where
            small.
    """
    programs = _Programs(rows, practice=practice)
    module = programs.module
    # There is no small model with these formats to practise with.
    formats = () if practice else ("int8", "int4", "fp8")
    few_rows = ("apart",) if practice else ("fused", "apart", "programmatic")
    kernels = ("rms_norm", "silu_and_mul") if practice else NAMES
    return [
        Command("environment", 40, module("environment")),
        Command("probes/uploads", 30, module("uploads")),
        Command("probes/graph-nodes", 30, module("graph_nodes")),
        Command("probes/products", 60, module("products")),
        Command("texts", 90, _texts(practice)),
        Command("steps/bfloat16", 90, module("steps", "--profile")),
        Command("numerics", 150, _numerics(practice)),
        Command("serving", 300, _serving(rows, practice)),
        *(Command(f"steps/{n}", 60, module("steps", "--few-rows", n)) for n in few_rows),
        *(Command(f"steps/{n}", 60, module("steps", "--quantization", n)) for n in formats),
        *(Command(f"steps/apart-{n}", 60, _apart(programs, n)) for n in formats if n != "fp8"),
        *(Command(f"kernels/{n}", 60, programs.script("bench/kernels.py", n)) for n in kernels),
        Command("gpu-tests", 240, _gpu_tests(practice)),
    ]


def _apart(programs: _Programs, quantization: str) -> tuple[str, ...]:
    """Steps of few rows without the kernels for them, for weights of codes."""
    return programs.module("steps", "--few-rows", "apart", "--quantization", quantization)


def _texts(practice: bool) -> tuple[str, ...]:
    """Greedy texts of small models, which must be the originals'."""
    file = "tests/runner/test_gpu_runner.py" if practice else "tests/gpu/test_runner.py"
    chosen = "whole_prompts" if practice else "greedy or queued_ahead"
    return (*_TESTS, "-n", "1" if practice else "4", "-k", chosen, file)


def _numerics(practice: bool) -> tuple[str, ...]:
    """Every kernel against its reference, on odd shapes."""
    if practice:
        return (*_TESTS, "-n", "1", "-k", "rms_norm", "tests/kernel_ops/test_numerics.py")
    return (*_TESTS, "-n", "6", "tests/kernel_ops")


def _gpu_tests(practice: bool) -> tuple[str, ...]:
    """Graphs, races and memory, which only a GPU has."""
    if practice:
        return (*_TESTS, "-n", "1", "-k", "ahead", "tests/runner/test_gpu_runner.py")
    return (*_TESTS, "-n", "4", "tests/gpu")


def _serving(rows: Path, practice: bool) -> tuple[str, ...]:
    """The server through HTTP, in turn with transformers."""
    program = ("bench/vs_transformers.py", "--rows", str(rows))
    if practice:
        small = ("--prompt-tokens", "8", "--output-tokens", "4", "--rounds", "1")
        return (*program, "--shape", "tiny", "--concurrency", "1", "2", *small)
    return (
        *(*program, "--device", "cuda", "--shape", "chatglm2-6b", "--dtype", "bfloat16"),
        *("--concurrency", "1", "16", "64", "256", "--prompt-tokens", "1024"),
        *("--output-tokens", "128", "--rounds", "2"),
    )


def as_process(command: Command) -> list[str]:
    """The command for this Python."""
    return [sys.executable, *command.arguments]
