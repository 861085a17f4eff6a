"""A real terminal: tmux draws what a command writes, and types what a test says."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager

import pytest


class Terminal:
    """One window of a tmux server that nothing else uses."""

    def __init__(self, server: str) -> None:
        self._server = server

    def type(self, text: str) -> None:
        """Type characters as they are."""
        self._tmux("send-keys", "-l", "--", text)

    def press(self, *keys: str) -> None:
        """Press keys by tmux's names, such as Enter, C-c or M-Enter."""
        self._tmux("send-keys", *keys)

    def say(self, text: str) -> None:
        """Type a line and send it."""
        self.type(text)
        self.press("Enter")

    def screen(self) -> str:
        """What the window shows, and what has scrolled out of it."""
        return self._tmux("capture-pane", "-p", "-J", "-S", "-")

    def wait_for(self, condition: str | Callable[[str], bool]) -> str:
        """Wait until the screen has a text, or until the condition holds. Returns the screen."""
        holds = (lambda screen: condition in screen) if isinstance(condition, str) else condition
        try:
            while not holds(screen := self.screen()):
                time.sleep(0.05)
        except BaseException:  # pytest's time limit
            print(self.screen())
            raise
        return screen

    def _tmux(self, *arguments: str) -> str:
        command = ["tmux", "-L", self._server, *arguments]
        result = subprocess.run(command, capture_output=True, text=True, check=True, timeout=30)
        return result.stdout


@contextmanager
def terminal(
    command: Sequence[str], environment: Mapping[str, str] | None = None
) -> Iterator[Terminal]:
    """A terminal of 80 columns in which a command runs; then it says `ended CODE`."""
    if shutil.which("tmux") is None:
        pytest.skip("tmux is not installed")
    server = f"glmserve-{uuid.uuid4().hex[:12]}"
    line = f"trap : INT; {shlex.join(command)}; echo ended $?; exec sleep 1000"
    start = ["tmux", "-L", server, "-f", os.devnull, "-u", "new-session", "-d"]
    start += ["-x", "80", "-y", "40", "sh", "-c", line]
    given = {**os.environ, "LC_ALL": "C.UTF-8", "TERM": "xterm-256color", **(environment or {})}
    given.pop("TMUX", None)
    subprocess.run(start, check=True, env=given, timeout=30)
    try:
        yield Terminal(server)
    finally:
        subprocess.run(["tmux", "-L", server, "kill-server"], capture_output=True, timeout=30)
