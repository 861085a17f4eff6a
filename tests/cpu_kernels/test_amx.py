"""AMX's products on a CPU without AMX: its instructions are emulated in C++.

The kernels are compiled from the same source. They need a CPU with AVX-512 BF16 for the rest.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from support.rebuilt_kernels import RebuiltKernels

pytestmark = [pytest.mark.exhaustive, pytest.mark.timeout(600)]
TESTS = Path(__file__).parents[1]
EMULATED = Path(__file__).parent / "emulated_amx.h"
CASES = """
*/linear_amx_amx.o)
    exec {{compiler}} {flags} -include {header} "$@" ;;
*/amx.o)
    echo 'namespace glm {{{{ bool has_amx() {{{{ return true; }}}} }}}}' >"$last.cpp"
    exec {{compiler}} -fPIC -c "$last.cpp" -o "$last" ;;
"""
SHOW_SET = "from glmserve_cpu_kernels.library import load; print(load().instruction_set)"


def emulated(folder: Path, flags: str = "") -> RebuiltKernels:
    flags_of_cpu = Path("/proc/cpuinfo")
    if not flags_of_cpu.exists() or "avx512_bf16" not in flags_of_cpu.read_text().split():
        pytest.skip("needs a CPU with AVX-512 BF16")
    return RebuiltKernels(folder, CASES.format(flags=flags, header=EMULATED))


def test_products_and_models(tmp_path: Path) -> None:
    """All tests of products; and the models' reference outputs, also in bfloat16 and with codes."""
    kernels = emulated(tmp_path)
    assert kernels.run("-c", SHOW_SET).stdout == "amx\n"
    for name in ("test_linear.py", "test_most_likely.py"):
        kernels.pass_tests(str(TESTS / "cpu_kernels" / name), "-k", "amx")
    kernels.pass_tests(str(TESTS / "models" / "test_goldens.py"), "-k", "native or bfloat16")


def test_wrong_products_are_not_used(tmp_path: Path) -> None:
    """A CPU, or an emulator of one, that computes one number of a tile wrong."""
    done = emulated(tmp_path, "-DGLM_WRONG_AMX").run("-c", SHOW_SET)
    assert done.stdout == "avx512_bf16\n"
    assert "this CPU's AMX is not used: in the self-test products of integers differ" in done.stderr
