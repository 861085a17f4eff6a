"""The CPU kernels for aarch64: compiled by a cross compiler, run by an emulator.

`setup.sh` prepares the emulator's folder, whose name is in $GLMSERVE_AARCH64.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from glmserve_cpu_kernels import build
from glmserve_cpu_kernels.library import UnavailableError
from support.exhaustive import exhaustive
from support.native import native_library

REPOSITORY = Path(__file__).parents[2]
COMPILER = "aarch64-linux-gnu-g++"
SETS = ("neon", "neon_dotprod", "neon_bf16")

Python = Callable[..., str]
"""Runs Python for aarch64 with these arguments; its output."""


@pytest.fixture(scope="module")
def compiler() -> str:
    path = shutil.which(COMPILER)
    if path is None:
        pytest.skip(f"no {COMPILER} (Debian's package g++-aarch64-linux-gnu)")
    return path


@pytest.mark.slow
@pytest.mark.parametrize("name", ["neon_bf16", exhaustive("neon"), exhaustive("neon_dotprod")])
def test_the_sources_compile(compiler: str, name: str, tmp_path: Path) -> None:
    """Those of the set, with its flags; no warning is left out of sight."""
    warnings = ("-Wall", "-Wextra", "-Werror", "-Wno-unused-parameter", "-Wno-psabi")
    flags = build.OF_MACHINES["aarch64"]
    assert tuple(flags) == SETS
    options = ("-std=c++20", "-fsyntax-only", *warnings)
    for job in build._jobs(tmp_path, {name: flags[name]}):
        done = subprocess.run([compiler, *options, *job], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr


@pytest.fixture(scope="module")
def python(compiler: str, tmp_path_factory: pytest.TempPathFactory) -> Python:
    """Over a copy of the source with kernels for aarch64 in it."""
    prepared = Path(os.environ.get("GLMSERVE_AARCH64", ""))
    emulator = shutil.which("qemu-aarch64-static")
    if emulator is None or not (prepared / "root").is_dir():
        pytest.skip("no emulator: run tests/aarch64/setup.sh, and set GLMSERVE_AARCH64")
    checkout = tmp_path_factory.mktemp("aarch64")
    for name in ("glmserve", "kernels", "tests", "bench"):
        shutil.copytree(
            REPOSITORY / name, checkout / name, ignore=shutil.ignore_patterns("*.so", "__pycache__")
        )
    for name in ("pyproject.toml", "README.md"):
        shutil.copy(REPOSITORY / name, checkout)
    target = checkout / "kernels" / "glmserve_cpu_kernels" / build.LIBRARY.name
    program = [sys.executable, build.__file__, "--machine", "aarch64", "--target", str(target)]
    subprocess.run(program, env={**os.environ, "CXX": compiler}, check=True)
    root = prepared / "root"
    paths = (checkout, checkout / "kernels", prepared / "packages")
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, paths))}

    def run(*arguments: str) -> str:
        command = [emulator, "-cpu", "max", "-L", root, root / "usr" / "bin" / "python3.11"]
        done = subprocess.run(
            [*command, *arguments], cwd=checkout, env=environment, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stdout[-5000:] + done.stderr[-5000:]
        return done.stdout

    return run


@pytest.mark.aarch64
@pytest.mark.timeout(3600)
def test_the_kernels_own_tests(python: Python) -> None:
    files = sorted((REPOSITORY / "tests" / "cpu_kernels").glob("test_*.py"))
    wanted = [f"tests/cpu_kernels/{file.name}" for file in files if file.name != "test_build.py"]
    options = ("-q", "-n", "0", "-p", "no:cacheprovider", "-o", "timeout=600")
    # It starts a Python, and the system runs none for aarch64.
    options += ("--deselect", "tests/cpu_kernels/test_tape.py::test_recording_imports_no_compiler")
    output = python("-m", "pytest", *options, *wanted)
    assert " passed" in output
    assert " skipped" not in output.splitlines()[-1]  # each set is there


@pytest.mark.aarch64
@pytest.mark.timeout(600)
def test_the_same_bits_and_answers_as_on_x86(python: Python) -> None:
    """AVX-512 has as many lanes, so sums over lanes have the same order. Products of bfloat16 are
    left out where the hardware may round them in its own way."""
    library = native_library()
    try:
        library.use("avx512_vnni")
    except UnavailableError as error:
        pytest.skip(str(error))
    finally:
        library.use(None)
    program = Path(__file__).with_name("results.py")
    here = subprocess.run([sys.executable, program, "avx512_vnni"], stdout=-1, check=True)
    expected: dict[str, Any] = json.loads(here.stdout)["avx512_vnni"]
    found: dict[str, Any] = json.loads(python(f"tests/aarch64/{program.name}", *SETS))
    assert tuple(found) == SETS
    for name, results in found.items():
        assert results["answers"] == expected["answers"], name
        left_out = {"bfloat16"} if name == "neon_bf16" else set()
        for kernel in expected["kernels"].keys() - left_out:
            assert results["kernels"][kernel] == expected["kernels"][kernel], (name, kernel)
