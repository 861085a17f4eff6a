"""Reads an input file by slabs on a thread, so that the event loop goes on."""

from __future__ import annotations

import asyncio
from collections.abc import Container
from pathlib import Path
from types import TracebackType

from glmserve.batches.lines import InputLine, LineError, read_lines

_LINES, _BYTES = 64, 2**20
"""A slab ends with the first of these."""


class Slabs:
    """The requests of a file that was checked, in order. To be used in a `with` statement.

    Args:
        max_body_size, endpoint: see read_lines.
        done: custom ids of requests to leave out.

    Raises:
        OSError: the file cannot be read, or has changed since it was checked.
    """

    def __init__(
        self, path: Path, max_body_size: int, endpoint: str | None, done: Container[str]
    ) -> None:
        self._path = path
        self._done = done
        self._file = path.open("rb")
        self._lines = read_lines(self._file, max_body_size, endpoint)

    def __enter__(self) -> Slabs:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._file.close()

    def __aiter__(self) -> Slabs:
        return self

    async def __anext__(self) -> list[InputLine]:
        """The next requests; perhaps none, if all of a slab are left out."""
        slab = await asyncio.to_thread(self._next)
        if slab is None:
            raise StopAsyncIteration
        return slab

    def _next(self) -> list[InputLine] | None:
        slab, size, has_lines = list[InputLine](), 0, False
        for number, line in enumerate(self._lines, 1):
            if isinstance(line, LineError):
                raise OSError(f"{self._path}: line {line.line} has changed: {line.message}")
            has_lines = True
            if line.custom_id not in self._done:
                slab.append(line)
                size += len(line.body)
            if number >= _LINES or size >= _BYTES:
                break
        return slab if has_lines else None
