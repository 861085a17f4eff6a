"""Commands that compute: their process becomes another one, because the command line imports no
torch."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import NoReturn

from glmserve.process.torch_environment import prepare_for_torch

_PACKAGE_ROOT = Path(__file__).parents[2]


def become(module: str, *arguments: str, debug: bool) -> NoReturn:
    """Replace this process by one that calls `main(*arguments, debug=debug)` of a module."""
    prepare_for_torch()
    command = command_of(module, *arguments, debug=debug)
    os.execv(command[0], command)


def command_of(module: str, *arguments: str, debug: bool) -> list[str]:
    """The command line of such a process. Its starter calls `prepare_for_torch` before."""
    # As for the worker, a file named torch.py in the current folder must not be run.
    code = (
        f"import sys; sys.path.append({str(_PACKAGE_ROOT)!r}); "
        f"from {module} import main; main(*sys.argv[1:], debug={debug})"
    )
    return [sys.executable, "-P", "-c", code, *arguments]
