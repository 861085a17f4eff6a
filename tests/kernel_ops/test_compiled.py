"""Every served shape of every kernel, compiled for chips that need not be there.

In processes of their own: here, Triton interprets.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from glmserve_kernels.registry import NAMES

COMPILER = Path(__file__).with_name("compiler.py")


@pytest.mark.timeout(600)
@pytest.mark.parametrize("name", NAMES)
def test_compiles_within_the_chips_limits_and_as_recorded(name: str) -> None:
    environment = {**os.environ, "TRITON_INTERPRET": "0"}
    done = subprocess.run(
        [sys.executable, str(COMPILER), name], env=environment, capture_output=True, text=True
    )
    print(done.stdout)
    assert done.returncode == 0, done.stderr
