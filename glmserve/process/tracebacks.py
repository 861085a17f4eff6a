"""Where an unexpected error came from, for a log that nobody's text may get into."""

from __future__ import annotations

import traceback


def origin(error: BaseException) -> str:
    """The error's type and the lines of code that raised it, without what it says.

    Messages of errors quote the value that was wrong, which may be a part of a prompt or an answer.
    """
    while isinstance(error, BaseExceptionGroup) and len(error.exceptions) == 1:
        error = error.exceptions[0]
    frames = "".join(traceback.format_tb(error.__traceback__)).rstrip()
    return f"{type(error).__qualname__}\n{frames}"
