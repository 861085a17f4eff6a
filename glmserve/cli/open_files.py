"""How many files, and so how many connections, a server may have open."""

from __future__ import annotations

import resource

from glmserve.errors import StartupError

_LEAST = 64
"""A server without a client has some twenty open."""
_ENOUGH = 65536


def allow_open_files() -> None:
    """Raise this process's limit as far as it may go.

    Raises:
        StartupError: not even a few connections could be open.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    allowed = _ENOUGH if hard == resource.RLIM_INFINITY else min(hard, _ENOUGH)
    if soft != resource.RLIM_INFINITY and soft < allowed:
        resource.setrlimit(resource.RLIMIT_NOFILE, (allowed, hard))
        soft = allowed
    if soft != resource.RLIM_INFINITY and soft < _LEAST:
        raise StartupError(
            f"this process may have {soft} files open, and a server needs at least {_LEAST}; raise "
            "the limit (ulimit -n)"
        )
