"""The CPU kernels compiled once more, in another way, and their tests run with them."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from glmserve_cpu_kernels import build

_WRAPPER = """#!/bin/sh
set -e
for last; do :; done
case "$last" in
{cases}
esac
exec {compiler} "$@"
"""


class RebuiltKernels:
    """The package in a folder of its own."""

    def __init__(self, folder: Path, cases: str) -> None:
        """Compile.

        Args:
            cases: branches of a shell's `case` over an object's file name, `$last`; with
                `{compiler}` and the folder of the `{sources}`.
        """
        compiler = shutil.which("g++")
        if compiler is None:
            pytest.skip("needs g++")
        package = folder / "glmserve_cpu_kernels"
        shutil.copytree(Path(build.__file__).parent, package, ignore=shutil.ignore_patterns("*.so"))
        wrapper = folder / "compiler"
        cases = cases.format(compiler=compiler, sources=package / "src")
        wrapper.write_text(_WRAPPER.format(compiler=compiler, cases=cases))
        wrapper.chmod(0o755)
        paths = os.pathsep.join([str(folder), *sys.path])
        self._environment = {**os.environ, "CXX": str(wrapper), "PYTHONPATH": paths}
        self.run(str(package / "build.py"))

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run Python with these kernels; its failure fails the test."""
        done = subprocess.run(
            [sys.executable, *arguments],
            env=self._environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done

    def pass_tests(self, *arguments: str) -> None:
        """Run pytest with these kernels; none of the tests may be skipped."""
        done = self.run("-m", "pytest", "-q", "-n", "0", *arguments, "-rs")
        assert " passed" in done.stdout
        assert "skipped" not in done.stdout
