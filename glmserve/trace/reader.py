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
    checksum,
    decode_beginning,
    decode_event,
)

_LARGEST_FRAME = 2**30


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
    with file:
        for number in count(1):
            header = file.read(HEADER_SIZE)
            if len(header) < HEADER_SIZE:
                return
            size = body_size(header)
            body = file.read(min(size, _LARGEST_FRAME))
            found = file.read(CHECKSUM_SIZE)
            if len(body) < size or len(found) < CHECKSUM_SIZE:
                return
            if found != checksum(header + body):
                raise OptionError(f"{path} is damaged: the checksum of frame {number} is wrong")
            yield body
