"""Lets several processes that want the same take turns."""

from __future__ import annotations

import contextlib
import fcntl
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Wait until no other process is in a context of the same path. Where the file system has no
    locks, nothing is waited for.

    Args:
        path: of a file that is made for this, and stays.

    Raises:
        OSError: the file cannot be made.
    """
    with path.open("ab") as file:
        with contextlib.suppress(OSError):
            fcntl.flock(file, fcntl.LOCK_EX)
        yield
