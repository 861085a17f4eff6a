"""AVX-VNNI's products on a CPU that has them in AVX-512's encoding only.

The compiler's assembly of these kernels is assembled without its {vex} marks. So the same
instructions run, in the encoding that this CPU knows, and all tests of products run with them.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from glmserve_cpu_kernels import build

pytestmark = pytest.mark.exhaustive
TESTS = Path(__file__).parent / "test_linear.py"
COMPILER = """#!/bin/sh
set -e
for last; do :; done
case "$last" in
*/linear_avx2_vnni.o)
    {compiler} $(echo " $* " | sed "s| -c | -S |; s| -o .*| -o $last.s|")
    grep -q "{{vex}}" "$last.s"
    sed "s/{{vex}}//" "$last.s" >"$last.plain.s"
    exec {compiler} -c "$last.plain.s" -o "$last" ;;
*/api.o)
    sed 's/"avxvnni"/"avx512vnni"/' "{sources}/api.cpp" >"$last.cpp"
    exec {compiler} -std=c++20 -O3 -fPIC -I "{sources}" -c "$last.cpp" -o "$last" ;;
esac
exec {compiler} "$@"
"""


def test_products_with_avx_vnni(tmp_path: Path) -> None:
    package = tmp_path / "glmserve_cpu_kernels"
    flags = Path("/proc/cpuinfo").read_text().split() if Path("/proc/cpuinfo").exists() else []
    compiler = shutil.which("g++")
    if "avx512_vnni" not in flags or compiler is None:
        pytest.skip("needs a CPU with AVX-512 VNNI, and g++")
    shutil.copytree(Path(build.__file__).parent, package, ignore=shutil.ignore_patterns("*.so"))
    wrapper = tmp_path / "compiler"
    wrapper.write_text(COMPILER.format(compiler=compiler, sources=package / "src"))
    wrapper.chmod(0o755)
    environment = {**os.environ, "CXX": str(wrapper)}
    subprocess.run([sys.executable, package / "build.py"], check=True, env=environment)
    paths = os.pathsep.join([str(tmp_path), *sys.path])
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-n", "0", TESTS, "-k", "avx2_vnni", "-rs"],
        env={**environment, "PYTHONPATH": paths},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    assert " passed" in done.stdout
    assert "skipped" not in done.stdout
