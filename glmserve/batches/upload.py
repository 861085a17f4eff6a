"""A file while it arrives."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from glmserve.batches.errors import FileTooLargeError


def storage_full() -> FileTooLargeError:
    """What is left of the owner's share is too little for a file."""
    return FileTooLargeError(
        "this file and the others of this API key take more bytes than it may store "
        "(--batch-storage); delete some",
        "file",
    )


class Upload:
    """Writes a new file piece by piece. Must be ended with `finish` or `discard`.

    Args:
        path: of the file, which must not exist.
        limit: the most bytes of a file.
        room: returns the bytes that are left to its owner, beside this file's.
    """

    def __init__(self, path: Path, limit: int, room: Callable[[], int]) -> None:
        self.path = path
        self.num_bytes = 0
        self._limit = limit
        self._room = room
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        self._file = os.fdopen(os.open(path, flags, 0o600), "wb")

    def write(self, data: bytes) -> None:
        """Append a piece.

        Raises:
            FileTooLargeError: the file is too large now.
            OSError: the disk does not take it.
        """
        self.num_bytes += len(data)
        if self.num_bytes > self._limit:
            raise FileTooLargeError(
                f"the file is larger than {self._limit} bytes (--batch-file-size); divide it",
                "file",
            )
        if self.num_bytes > self._room():
            raise storage_full()
        self._file.write(data)

    def finish(self) -> None:
        """Wait until the disk has all of it."""
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()

    def discard(self) -> None:
        """Delete it."""
        try:
            self._file.close()
        finally:
            self.path.unlink(missing_ok=True)
