"""The plugin by which a CUDA error ends only the process that it happened in."""

from __future__ import annotations

from pathlib import Path

import pytest

from support.cuda_errors import is_cuda_error

TESTS = """
import os
import pytest

_broken = False

@pytest.mark.parametrize("number", range(6))
def test_number(number):
    global _broken
    if number == 2:
        _broken = True
        raise RuntimeError("CUDA error: an illegal memory access was encountered")
    assert not _broken
    assert number != 4
"""


@pytest.fixture(autouse=True)
def plugin_can_be_imported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[1]))


def test_only_the_test_that_caused_it_fails(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(test_gpu=TESTS)
    done = pytester.runpytest_subprocess("-n", "1", "-p", "support.cuda_errors", "-v")
    done.assert_outcomes(passed=4, failed=2)
    output = done.stdout.str() + done.stderr.str()
    assert "CUDA error in test_gpu.py::test_number[2]: CUDA error: an illegal" in output
    assert "crashed while running 'test_gpu.py::test_number[2]'" in output
    assert "FAILED test_gpu.py::test_number[4]" in output


def test_without_other_processes_it_is_a_failure(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(test_gpu=TESTS)
    done = pytester.runpytest_subprocess("-p", "support.cuda_errors", "-n", "0")
    done.assert_outcomes(passed=2, failed=4)


def test_missing_memory_breaks_nothing_else() -> None:
    assert not is_cuda_error(RuntimeError("CUDA error: out of memory"))
    try:
        try:
            raise RuntimeError("Triton Error [CUDA]: an illegal instruction")
        except RuntimeError as error:
            raise ValueError("no result") from error
    except ValueError as error:
        assert is_cuda_error(error)
