"""Runs a command with a time limit, and ends all that it has started."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import IO, NamedTuple

from gpu_stages.state import OUT_OF_TIME

_SECONDS_TO_END = 5
"""Between SIGTERM and SIGKILL."""


class Ended(NamedTuple):
    exit_code: int
    """OUT_OF_TIME if the limit stopped it; negative: the signal that ended it."""
    seconds: float


def run(command: Sequence[str], limit: float, log: Path) -> Ended:
    """Run a command in a process group of its own; its output goes to ours and to the log.

    Args:
        limit: seconds after which its whole group is ended.
        log: is appended to.
    """
    begin = time.monotonic()
    with subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    ) as process:
        assert process.stdout is not None
        reader = threading.Thread(target=_copy, args=(process.stdout, log), daemon=True)
        reader.start()
        try:
            exit_code = process.wait(limit)
        except subprocess.TimeoutExpired:
            exit_code = OUT_OF_TIME
            _signal_group(process.pid, signal.SIGTERM)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(_SECONDS_TO_END)
        finally:
            _signal_group(process.pid, signal.SIGKILL)  # also what it has left behind
            reader.join(_SECONDS_TO_END)
    return Ended(exit_code, time.monotonic() - begin)


def _copy(output: IO[bytes], log: Path) -> None:
    with log.open("ab") as file:
        while piece := os.read(output.fileno(), 65536):
            file.write(piece)
            file.flush()
            sys.stdout.buffer.write(piece)
            sys.stdout.buffer.flush()


def _signal_group(group: int, number: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(group, number)
