"""Prints what scripts say with `--help`, as a JSON object by their paths.

    python tests/support/usages.py bench/load.py bench/memory.py

The scripts run one after the other in this process, so heavy packages are imported once.
"""

from __future__ import annotations

import contextlib
import io
import json
import runpy
import sys
from pathlib import Path


def usage_of(script: str) -> str:
    """The output of `script --help`.

    Raises:
        RuntimeError: the script does not end with exit code 0.
    """
    output = io.StringIO()
    before = sys.argv, list(sys.path)
    sys.argv = [script, "--help"]
    sys.path.insert(0, str(Path(script).resolve().parent))
    try:
        with contextlib.redirect_stdout(output):
            runpy.run_path(script, run_name="__main__")
    except SystemExit as end:
        if end.code not in (None, 0):
            raise RuntimeError(f"{script} --help ended with {end.code}") from None
    finally:
        sys.argv, sys.path[:] = before
    return output.getvalue()


if __name__ == "__main__":
    print(json.dumps({script: usage_of(script) for script in sys.argv[1:]}))
