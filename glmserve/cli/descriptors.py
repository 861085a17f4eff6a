"""The limit of open files, which is the limit of connections."""

from __future__ import annotations

import resource

from glmserve.errors import OptionError, StartupError

_LEAST = 64
"""A server without a client has some twenty open."""
_OWN = 160
"""Descriptors that are kept for the server itself and for connections that are being refused."""
_ENOUGH = 4096
"""Connections, unless the operator says otherwise."""
_UNLIMITED = 2**20  # Linux's highest, unless its administrator has raised it


def raise_limit() -> int:
    """Make the process's limit of open files as high as it may be; the limit.

    Raises:
        StartupError: not even a few connections could be open.
    """
    limit = _raised()
    if limit < _LEAST:
        raise StartupError(
            f"this process may have {limit} files open, and a server needs at least {_LEAST}; "
            "raise the limit (ulimit -n)"
        )
    return limit


def _raised() -> int:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _UNLIMITED if hard == resource.RLIM_INFINITY else hard
    if soft == resource.RLIM_INFINITY or soft >= wanted:
        return wanted
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    except (OSError, ValueError):  # macOS says "infinity" and takes less
        return soft
    return wanted


def room_for_connections(wanted: int | None, limit: int) -> int:
    """How many connections there may be.

    Args:
        wanted: None leaves it to us.
        limit: of open files.

    Raises:
        OptionError: there cannot be as many as are wanted.
    """
    most = max(1, limit - _OWN)
    if wanted is None:
        return min(_ENOUGH, most)
    if wanted > most:
        raise OptionError(
            f"--max-connections {wanted}: the limit of {limit} open files (ulimit -Hn) has room "
            f"for {most}"
        )
    return wanted
