"""Describes how a process ended."""

from __future__ import annotations

import signal

_LIKELY_REASONS = {
    signal.SIGKILL: "out of memory?",
    signal.SIGABRT: "compiled code called abort(); out of memory?",
    signal.SIGSEGV: "a bug in compiled code?",
    signal.SIGBUS: "a checkpoint that changed on disk?",
    signal.SIGILL: "code compiled for another processor?",
}


def describe_exit(code: int) -> str:
    """A predicate such as "ended with exit code 1".

    Args:
        code: exit code, or the negative number of the signal that killed the process, as in
            `subprocess`.
    """
    if code >= 0:
        return f"ended with exit code {code}"
    try:
        number = signal.Signals(-code)
    except ValueError:
        return f"was killed by signal {-code}"
    reason = _LIKELY_REASONS.get(number)
    return f"was killed by {number.name}" + (f" ({reason})" if reason else "")
