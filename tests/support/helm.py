"""Renders the chart of deploy/kubernetes in a process of its own.

helm's library contains a Go runtime, which catches SIGPIPE from its import on, a signal that Python
ignores. In test processes that had run many other tests, a write to a closed socket ended the
process there: the kernel could not call Go's handler (SIGSEGV with SI_KERNEL inside of send).
"""

from __future__ import annotations

import atexit
import importlib.util
import json
import subprocess
import sys
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import pytest

KUBERNETES = Path(__file__).parents[2] / "deploy" / "kubernetes"

PROGRAM = """
import json, sys
import helm_python
sys.path.insert(0, sys.argv[1])
import render

calls = {
    "documents": lambda values: render.documents(values, "demo"),
    "base": lambda values: render.base(),
    "lint": lambda values: helm_python.lint(str(render.CHART))["errors"],
}
for line in sys.stdin:
    name, values = json.loads(line)
    try:
        answer = {"result": calls[name](values)}
    except Exception as error:
        answer = {"error": str(error)}
    print(json.dumps(answer), flush=True)
"""


class HelmError(Exception):
    """helm refuses the values."""


def need_helm() -> None:
    """Skip the calling module if helm's package is missing, without importing it."""
    if importlib.util.find_spec("helm_python") is None:
        pytest.skip("needs the deploy extra", allow_module_level=True)


def helm(call: str, values: Mapping[str, Any] | None = None) -> Any:
    """Do one of PROGRAM's calls.

    Raises:
        HelmError: helm reports a mistake.
    """
    process = _process()
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(json.dumps([call, values or {}]) + "\n")
    process.stdin.flush()
    answer = json.loads(process.stdout.readline())
    if "error" in answer:
        raise HelmError(answer["error"])
    return answer["result"]


@cache
def _process() -> subprocess.Popen[str]:
    command = [sys.executable, "-c", PROGRAM, str(KUBERNETES)]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    atexit.register(process.kill)
    return process
