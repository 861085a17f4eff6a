"""What has become of each command of bench/gpu.sh, so that a later call goes on from there."""

from __future__ import annotations

import json
from pathlib import Path

import msgspec

OUT_OF_TIME = 124
"""Exit code of a command that was stopped at its limit, as `timeout` has it."""


class Outcome(msgspec.Struct, frozen=True):
    """Of the last attempt at a command."""

    exit_code: int
    """0: passed. Negative: the signal that ended it."""
    seconds: float
    attempts: int = 1

    @property
    def passed(self) -> bool:
        return self.exit_code == 0

    def __str__(self) -> str:
        if self.passed:
            return "passed"
        if self.exit_code == OUT_OF_TIME:
            return "out of time"
        if self.exit_code < 0:
            return f"ended by signal {-self.exit_code}"
        return f"exit code {self.exit_code}"


class State:
    """The outcomes of commands by name, kept in a file.

    Args:
        path: of the file. One that cannot be read counts as absent.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            self.outcomes = msgspec.json.decode(path.read_bytes(), type=dict[str, Outcome])
        except (OSError, msgspec.MsgspecError):
            self.outcomes: dict[str, Outcome] = {}

    def record(self, name: str, exit_code: int, seconds: float) -> None:
        """Note an attempt, and write the file anew."""
        before = self.outcomes.get(name)
        attempts = before.attempts + 1 if before else 1
        self.outcomes[name] = Outcome(exit_code, round(seconds, 1), attempts)
        part = self._path.with_suffix(".part")
        part.write_text(json.dumps(msgspec.to_builtins(self.outcomes), indent=1) + "\n")
        part.replace(self._path)
