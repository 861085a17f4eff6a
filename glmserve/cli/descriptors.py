"""The limit of open files, which limits connections."""

from __future__ import annotations

import resource

from glmserve.errors import OptionError, StartupError

_MIN_FILES = 64
"""Smallest usable limit; a server without clients has about twenty open files."""
_RESERVED_FILES = 160
"""File descriptors reserved for the server itself and for connections that are being refused."""
_DEFAULT_CONNECTIONS = 4096
"""Maximum number of connections unless the operator sets one."""
_UNLIMITED = 2**20  # Linux's highest, unless its administrator has raised it


def raise_limit() -> int:
    """Raise the process's limit of open files as far as possible.

    Returns:
        The new limit.

    Raises:
        StartupError: the limit is too low for a server.
    """
    limit = _raise_soft_limit()
    if limit < _MIN_FILES:
        raise StartupError(
            f"this process may have {limit} files open, and a server needs at least {_MIN_FILES}; "
            "raise the limit (ulimit -n)"
        )
    return limit


def _raise_soft_limit() -> int:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _UNLIMITED if hard == resource.RLIM_INFINITY else hard
    if soft == resource.RLIM_INFINITY or soft >= wanted:
        return wanted
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    except (OSError, ValueError):  # macOS reports "infinity" and accepts less
        return soft
    return wanted


def room_for_connections(wanted: int | None, limit: int) -> int:
    """The maximum number of connections.

    Args:
        wanted: the operator's number; None: the default, as far as the limit allows.
        limit: maximum number of open files.

    Raises:
        OptionError: the limit of open files does not allow the wanted number.
    """
    most = max(1, limit - _RESERVED_FILES)
    if wanted is None:
        return min(_DEFAULT_CONNECTIONS, most)
    if wanted > most:
        raise OptionError(
            f"--max-connections {wanted}: the limit of {limit} open files (ulimit -Hn) has room "
            f"for {most}"
        )
    return wanted
