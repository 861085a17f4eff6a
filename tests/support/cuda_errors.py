"""A pytest plugin: a CUDA error ends the process that it happened in.

After an illegal access or a failed launch nothing works any more in a process that uses the GPU, so
every further test would fail there for the same reason. pytest-xdist names the test that was
running, and goes on in a new process: `pytest -n 4 -p support.cuda_errors`.
"""

from __future__ import annotations

import os
import sys

import pytest

_MARKS = ("CUDA error", "HIP error", "Triton Error [CUDA]", "Triton Error [HIP]")
_EXIT_CODE = 70


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> object:
    try:
        return (yield)
    except Exception as error:
        if hasattr(item.config, "workerinput") and is_cuda_error(error):
            text = str(error).strip().splitlines()[0]
            capture = item.config.pluginmanager.getplugin("capturemanager")
            with capture.global_and_fixture_disabled():
                print(f"CUDA error in {item.nodeid}: {text}", file=sys.stderr, flush=True)
            os._exit(_EXIT_CODE)
        raise


def is_cuda_error(error: BaseException | None) -> bool:
    """Whether an error, or what caused it, is one of the GPU. Missing memory is none."""
    while error is not None:
        if any(mark in str(error) for mark in _MARKS) and "out of memory" not in str(error):
            return True
        error = error.__cause__ or error.__context__
    return False
