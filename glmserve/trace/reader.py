"""Reads recordings, including ones that end early because the server was killed."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import BinaryIO

import msgspec

from glmserve.contract.wire import HEADER_SIZE, body_size
from glmserve.errors import OptionError
from glmserve.trace.events import (
    CHECKSUM_SIZE,
    MAGIC,
    Beginning,
    Event,
    RunningChecksum,
    decode_beginning,
    decode_event,
)


def read_recording(path: Path) -> tuple[Beginning, Iterator[Event]]:
    """Read a recording.

    Returns:
        The beginning, and an iterator that reads the events one by one, up to the first incomplete
        frame. The iterator raises OptionError if an event is damaged.

    Raises:
        OptionError: the file cannot be read, is not a recording, or has no beginning or a damaged
            one.
    """
    try:
        file = path.open("rb")
    except OSError as error:
        raise OptionError(f"{path}: {(error.strerror or str(error)).lower()}") from None
    if file.read(len(MAGIC)) != MAGIC:
        file.close()
        raise OptionError(f"{path} is no recording of this version of glmserve's")
    bodies = _bodies(path, file)
    first = next(bodies, None)
    if first is None:
        raise OptionError(f"{path} is empty: the server was never ready")
    try:
        beginning = decode_beginning(first)
    except msgspec.DecodeError as error:
        raise OptionError(f"{path} is damaged: {error}") from None
    return beginning, _events(path, bodies)


def _events(path: Path, bodies: Iterator[bytes]) -> Iterator[Event]:
    for number, body in enumerate(bodies, start=1):
        try:
            yield decode_event(body)
        except msgspec.DecodeError as error:
            raise OptionError(f"{path} is damaged in event {number}: {error}") from None


def _bodies(path: Path, file: BinaryIO) -> Iterator[bytes]:
    """The bodies of all complete frames. Raises OptionError if a checksum is wrong."""
    checksum = RunningChecksum()

    def read(size: int, number: int) -> bytes | None:
        """The next part of frame `number`; None: the file ends in it."""
        part, found = file.read(size), file.read(CHECKSUM_SIZE)
        if len(found) < CHECKSUM_SIZE:
            return None
        if found != checksum.after(part):
            raise OptionError(
                f"{path} is damaged: the checksum of frame {number} is wrong, or a frame before it "
                "is missing"
            )
        return part

    with file:
        for number in count(1):
            header = read(HEADER_SIZE, number)
            body = None if header is None else read(body_size(header), number)
            if body is None:
                return
            yield body
