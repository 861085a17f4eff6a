"""Describes unexpected errors for logs that must not contain users' text."""

from __future__ import annotations

import traceback


def origin(error: BaseException) -> str:
    """The error's type and traceback, without its message.

    Messages of errors often quote the wrong value, which may be a part of a prompt or an answer.
    """
    while isinstance(error, BaseExceptionGroup) and len(error.exceptions) == 1:
        error = error.exceptions[0]
    frames = "".join(traceback.format_tb(error.__traceback__)).rstrip()
    return f"{type(error).__qualname__}\n{frames}"
