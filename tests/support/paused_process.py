"""Python processes that pause at a chosen point, so that a signal meets them exactly there."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

_SITE = """
import sys
import time
from pathlib import Path


def pause(event, arguments, reached=Path({reached!r})):
    if event == {event!r} and str(arguments[0]).endswith({end!r}) and not reached.exists():
        reached.touch()
        while True:
            time.sleep(0.01)


sys.addaudithook(pause)
"""


class Pause:
    """Where the next Python process is to pause: the first to come there stays until it is ended.

    Args:
        folder: an empty one, for this alone.
        event: of Python's audit events, "import" for example.
        end: of the event's first argument, a module's name or a path.
    """

    def __init__(self, folder: Path, event: str, end: str, monkeypatch: pytest.MonkeyPatch) -> None:
        self._reached = folder / "reached"
        code = _SITE.format(reached=str(self._reached), event=event, end=end)
        (folder / "sitecustomize.py").write_text(code)
        path = [str(folder), *filter(None, [os.environ.get("PYTHONPATH")])]
        monkeypatch.setenv("PYTHONPATH", os.pathsep.join(path))

    def wait(self) -> None:
        """Until a process has come there. A test's own time limit ends this."""
        while not self._reached.exists():
            time.sleep(0.01)
