"""AVX-VNNI's products on a CPU that has them in AVX-512's encoding only.

The compiler's assembly of these kernels is assembled without its {vex} marks. So the same
instructions run, in the encoding that this CPU knows, and all tests of products run with them.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from support.rebuilt_kernels import RebuiltKernels

pytestmark = [pytest.mark.exhaustive, pytest.mark.timeout(600)]
TESTS = [Path(__file__).parent / name for name in ("test_linear.py", "test_most_likely.py")]
CASES = """
*/linear_avx2_vnni.o)
    {compiler} $(echo " $* " | sed "s| -c | -S |; s| -o .*| -o $last.s|")
    grep -q "{{vex}}" "$last.s"
    sed "s/{{vex}}//" "$last.s" >"$last.plain.s"
    exec {compiler} -c "$last.plain.s" -o "$last" ;;
*/api.o)
    grep -q "avx2 && has_avx_vnni()" "{sources}/api.cpp"
    sed 's/avx2 && has_avx_vnni()/avx512/' "{sources}/api.cpp" >"$last.cpp"
    exec {compiler} -std=c++20 -O3 -fPIC -I "{sources}" -c "$last.cpp" -o "$last" ;;
"""


def test_products_with_avx_vnni(tmp_path: Path) -> None:
    flags = Path("/proc/cpuinfo").read_text().split() if Path("/proc/cpuinfo").exists() else []
    if "avx512_vnni" not in flags:
        pytest.skip("needs a CPU with AVX-512 VNNI")
    RebuiltKernels(tmp_path, CASES).pass_tests(*map(str, TESTS), "-k", "avx2_vnni")
