"""Ends the process immediately on a signal during imports."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Iterator
from types import FrameType


@contextlib.contextmanager
def exit_immediately_on(*numbers: signal.Signals) -> Iterator[None]:
    """Let these signals end the process without raising an exception in it.

    For imports. An exception that a signal raises there does not always arrive: `__set_name__`
    turns it into a RuntimeError, a weak reference's callback drops it. Use it only while there is
    nothing to clean up. The exit code is 128 and the signal's number. A signal that is ignored,
    as SIGINT is in a shell script's background, stays ignored.
    """
    before = {number: signal.getsignal(number) for number in numbers}
    for number, handler in before.items():
        if handler is not signal.SIG_IGN:
            signal.signal(number, _end)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _end(number: int, _frame: FrameType | None) -> None:
    os._exit(128 + number)
