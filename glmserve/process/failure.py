"""Reports a failed command: one line on stderr with the cause and the remedy, and an exit code.

Exit codes: 2, an option is wrong; 130, Ctrl-C; 141, the reader of the output is gone; 1, all other
errors.
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
_BROKEN_PIPE = 141  # 128 + SIGPIPE, as shells report it

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
    """Run a command, report its error if it fails, and exit with its code.

    Args:
        command: returns the exit code; None is 0.
        debug: show tracebacks as well.
    """
    try:
        code = command() or 0
        sys.stdout.flush()
    except SystemExit as end:  # argparse has printed its message
        code = _flush_stdout(end.code if isinstance(end.code, int) else 0)
    except BaseException as error:
        code = report(error, debug=debug)
    sys.exit(code)


def report(error: BaseException, *, debug: bool) -> int:
    """Print one line about an error. Returns the exit code for it."""
    if isinstance(error, BrokenPipeError):
        _leave_stdout()
        return _BROKEN_PIPE
    if debug:
        traceback.print_exception(error)
    if isinstance(error, KeyboardInterrupt):
        return INTERRUPTED
    print_error(_describe(error))
    return error.exit_code if isinstance(error, StartupError) else 1


def print_error(message: str) -> None:
    """Print an error message on stderr, as one line."""
    print(f"glmserve: error: {' '.join(message.split())}", file=sys.stderr, flush=True)


def repair_streams() -> None:
    """Make the standard streams safe to write to.

    A closed one is opened as /dev/null; otherwise a socket would take its number. Characters that
    the locale cannot write are written as escapes.
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


def _flush_stdout(code: int) -> int:
    try:
        sys.stdout.flush()
    except OSError as error:
        return report(error, debug=False)
    return code


def _leave_stdout() -> None:
    """Point stdout to /dev/null, so that the interpreter's last flush does not fail."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
