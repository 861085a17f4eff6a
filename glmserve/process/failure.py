"""How a command ends that fails: one line on stderr with the cause and what to do, and its code.

Exit codes: 2, an option is wrong; 130, Ctrl-C; 141, nobody reads the output any more; 1, all else.
"""

from __future__ import annotations

import errno
import os
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

from glmserve.errors import StartupError

INTERRUPTED = 130
_NOBODY_READS = 141  # as a shell reports SIGPIPE

_REMEDIES = {
    errno.EMFILE: "allow this process more open files (ulimit -n)",
    errno.ENFILE: "the system has too many files open",
    errno.ENOSPC: "free some space, or write elsewhere",
    errno.EDQUOT: "free some space, or write elsewhere",
    errno.EFBIG: "the limit on the size of files is too low (ulimit -f)",
    errno.EROFS: "write elsewhere",
    errno.EACCES: "its permissions do not allow that to this user",
    errno.EAGAIN: "a limit on processes or threads is too low (ulimit -u)",
    errno.ENOMEM: "free some memory, or raise its limit (ulimit -v)",
}


def exit_with(command: Callable[[], int | None], *, debug: bool = False) -> NoReturn:
    """Run a command to its end, and end the process with what came of it.

    Args:
        command: returns the exit code; None is 0.
        debug: tracebacks are shown as well.
    """
    try:
        code = command() or 0
        sys.stdout.flush()
    except SystemExit as end:  # argparse has said everything
        code = _flushed(end.code if isinstance(end.code, int) else 0)
    except BaseException as error:
        code = report(error, debug=debug)
    sys.exit(code)


def report(error: BaseException, *, debug: bool) -> int:
    """Say in one line what went wrong; the exit code that goes with it."""
    if isinstance(error, BrokenPipeError):
        _leave_stdout()
        return _NOBODY_READS
    if debug:
        traceback.print_exception(error)
    if isinstance(error, KeyboardInterrupt):
        return INTERRUPTED
    say(_describe(error))
    return error.exit_code if isinstance(error, StartupError) else 1


def say(message: str) -> None:
    """One line on stderr, whatever is in the message."""
    print(f"glmserve: error: {' '.join(message.split())}", file=sys.stderr, flush=True)


def repair_streams() -> None:
    """Make the standard streams safe to write to.

    One that was closed becomes /dev/null, or a socket would take its number; a character that the
    locale cannot write is written as its code.
    """
    for descriptor in (0, 1, 2):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest free number: this one
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, Path(os.devnull).open("w"))  # noqa: SIM115
        elif hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")


def _describe(error: BaseException) -> str:
    if isinstance(error, StartupError):
        return error.message
    if isinstance(error, MemoryError):
        return f"not enough memory; {_REMEDIES[errno.ENOMEM]}"
    if isinstance(error, OSError):
        subject = f"{error.filename}: " if error.filename else ""
        return _with_remedy(f"{subject}{error.strerror or error}", error.errno)
    if isinstance(error, RuntimeError) and "can't start new thread" in str(error):
        return _with_remedy(str(error), errno.EAGAIN)
    frames = traceback.extract_tb(error.__traceback__)
    place = f" ({Path(frames[-1].filename).name}, line {frames[-1].lineno})" if frames else ""
    return (
        f"this is a bug of glmserve: {type(error).__name__}: {error}{place}; please report it, "
        "with the traceback that the same command shows with --debug"
    )


def _with_remedy(cause: str, number: int | None) -> str:
    remedy = _REMEDIES.get(number or 0)
    return f"{cause}; {remedy}" if remedy else cause


def _flushed(code: int) -> int:
    try:
        sys.stdout.flush()
    except OSError as error:
        return report(error, debug=False)
    return code


def _leave_stdout() -> None:
    """So that the interpreter does not complain when it flushes in the end."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
