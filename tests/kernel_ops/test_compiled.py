"""Kernels compiled for chips that need not be there: one shape of each always, and, with
`pytest -m compiled`, every served shape for every chip.

In processes of their own: here, Triton interprets.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from glmserve_kernels.registry import NAMES
from glmserve_kernels.tiles import CHIPS
from support.exhaustive import exhaustive

FOLDER = Path(__file__).parent

pytestmark = pytest.mark.timeout(900)


def run(script: str, *arguments: str) -> str:
    environment = {**os.environ, "TRITON_INTERPRET": "0"}
    command = [sys.executable, str(FOLDER / script), *arguments]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def show(covered: str, capsys: pytest.CaptureFixture[str]) -> None:
    """What was covered is part of what a run says, also when nothing fails."""
    with capsys.disabled():
        print(f"\n{covered}", end=" ")


@pytest.mark.slow
@pytest.mark.parametrize(
    "options",
    [
        ["short", "int4", "fp8"],
        exhaustive(["defaults", "batch256", "int8kv", "adapters", "deterministic"]),
    ],
    ids=" ".join,
)
def test_a_server_needs_nothing_new_and_no_more_memory_than_planned(options: list[str]) -> None:
    """After its start it compiles and records nothing. Without compiling: in seconds."""
    run("absent_server.py", *options)


@pytest.mark.slow
def test_one_shape_of_every_kernel(capsys: pytest.CaptureFixture[str]) -> None:
    """In bfloat16, for the chip whose code is the most special: wgmma and bulk copies."""
    show(run("compiler.py", "--chip", "sm_90", "--one-shape"), capsys)


@pytest.mark.compiled
@pytest.mark.parametrize("name", NAMES)
def test_within_the_chips_limits_and_as_recorded(
    name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    show(run("compiler.py", name), capsys)


@pytest.mark.compiled
def test_programs_wait_for_the_kernel_before(capsys: pytest.CaptureFixture[str]) -> None:
    show(run("programmatic.py"), capsys)


@pytest.mark.compiled
def test_rows_are_summed_in_one_order(capsys: pytest.CaptureFixture[str]) -> None:
    show(run("same_order.py"), capsys)


@pytest.mark.compiled
@pytest.mark.parametrize("chip", CHIPS)
def test_a_server_compiles_nothing_after_its_start(
    chip: str, capsys: pytest.CaptureFixture[str]
) -> None:
    show(run("compile_server.py", chip), capsys)
