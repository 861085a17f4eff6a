"""Runs the process that checks devices and weights: the command line itself loads no torch."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from glmserve.config import RunnerConfig
from glmserve.contract.diagnosis import Findings
from glmserve.contract.wire import decode_json, encode_json
from glmserve.errors import StartupError
from glmserve.executor.exit_status import describe_exit
from glmserve.process.torch_environment import TORCH_DEFAULTS

_PACKAGE_ROOT = Path(__file__).parents[3]
_TIMEOUT = 180.0
"""Seconds. Importing torch from a slow disk can take most of them."""


def probe(config: RunnerConfig) -> Findings:
    """Check this machine, and the checkpoint if its config.json can be read.

    Raises:
        StartupError: the process failed or did not end in time.
    """
    # As for the worker, a file named torch.py in the current folder must not be run.
    code = (
        f"import sys; sys.path.append({str(_PACKAGE_ROOT)!r}); "
        "from glmserve.probe.main import main; main()"
    )
    try:
        result = subprocess.run(
            [sys.executable, "-P", "-c", code],
            input=encode_json(config),
            capture_output=True,
            timeout=_TIMEOUT,
            env={**TORCH_DEFAULTS, **os.environ},
        )
    except subprocess.TimeoutExpired:
        raise StartupError(
            f"the process that looks at the devices has not ended within {_TIMEOUT:g} seconds; "
            "a driver hangs, or a device plugin"
        ) from None
    if result.returncode:
        # The last line is the error message, as from every failed command.
        lines = result.stderr.decode(errors="replace").split("\n")
        last = next((line.strip() for line in reversed(lines) if line.strip()), "")
        raise StartupError(
            f"the process that looks at the devices {describe_exit(result.returncode)}"
            + (f": {last.removeprefix('glmserve: error: ')}" if last else "")
        )
    return decode_json(result.stdout, Findings)
