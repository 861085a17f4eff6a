"""A file of JSON lines that grows by whole lines, whatever ends the process."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec

_TAIL = 64 * 1024  # bytes that are read at a time, from the end
_OWNER_ONLY = 0o600


class RecordError(Exception):
    """A file has a line that is no record of an answer."""


class _Record(msgspec.Struct):
    custom_id: str


_decode = msgspec.json.Decoder(_Record).decode


class RecordFile:
    """Appends lines. A last line that is not complete is cut off when the file is opened.

    Raises:
        OSError: the file cannot be opened, or another process has it (EWOULDBLOCK).
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC
        self._file = os.fdopen(os.open(path, flags, _OWNER_ONLY), "r+b", buffering=0)
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self.size = self._end_of_lines()
            self._is_clean = False
            self._clean()
        except BaseException:
            self._file.close()
            raise

    def ids(self) -> Iterator[str]:
        """The custom ids of all lines.

        Raises:
            RecordError: a line is no record.
            OSError: the file cannot be read.
        """
        with self.path.open("rb") as lines:
            for number, line in enumerate(lines, 1):
                try:
                    yield _decode(line).custom_id
                except (msgspec.DecodeError, UnicodeDecodeError):
                    raise RecordError(
                        f"{self.path}: line {number} is no answer of a batch"
                    ) from None

    def append(self, lines: Sequence[bytes]) -> None:
        """Add lines, and wait until the disk has them.

        Args:
            lines: each ends with a newline.

        Raises:
            OSError: none was added.
        """
        data = b"".join(lines)
        self._clean()
        self._is_clean = False
        rest = memoryview(data)
        try:
            while rest:
                rest = rest[self._file.write(rest) :]
            os.fsync(self._file.fileno())
        except OSError:
            self._clean()
            raise
        self.size += len(data)
        self._is_clean = True

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def _clean(self) -> None:
        """Cut off what does not belong to a complete line, and go to the end."""
        if not self._is_clean:
            self._file.truncate(self.size)
            self._file.seek(self.size)
            self._is_clean = True

    def _end_of_lines(self) -> int:
        """The size of all complete lines, bytes."""
        end = os.fstat(self._file.fileno()).st_size
        while end:
            start = max(0, end - _TAIL)
            newline = os.pread(self._file.fileno(), end - start, start).rfind(b"\n")
            if newline >= 0:
                return start + newline + 1
            end = start
        return 0
