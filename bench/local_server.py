"""A glmserve of our own for the length of a benchmark."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from types import TracebackType


class LocalServer:
    """`with LocalServer("--device", "null") as server:` runs `glmserve serve` on a free port.

    Args:
        arguments: of `glmserve serve`.
        checkout: folder with the source that runs; None is the installed glmserve.
    """

    def __init__(self, *arguments: str, checkout: Path | None = None) -> None:
        command = [sys.executable, "-m", "glmserve", "serve", "--port", "0", *arguments]
        environment = dict(os.environ)
        if checkout is not None:
            environment["PYTHONPATH"] = f"{checkout}{os.pathsep}{checkout / 'kernels'}"
        self._process = subprocess.Popen(
            command, stdout=subprocess.PIPE, text=True, cwd=checkout, env=environment
        )
        self.url = ""

    @property
    def pid(self) -> int:
        return self._process.pid

    def __enter__(self) -> LocalServer:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            if match := re.search(r"URL +(http://\S+)/v1", line):
                self.url = match[1]
            if line.strip().startswith("curl"):
                return self
        raise SystemExit("the server did not start")

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._process.terminate()
        self._process.wait()
