"""Reads recordings, including ones that end early because the server was killed."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import msgspec

from glmserve.contract.wire import HEADER_SIZE, body_size
from glmserve.errors import OptionError
from glmserve.trace.events import MAGIC, Beginning, Event, decode_beginning, decode_event

_LARGEST_FRAME = 2**30


def read_recording(path: Path) -> tuple[Beginning, Iterator[Event]]:
    """Read a recording.

    Returns:
        The beginning, and an iterator that reads the events one by one, up to the first incomplete
        frame. The iterator raises OptionError if an event is damaged.

    Raises:
        OptionError: the file cannot be read, is not a recording, or has no beginning.
    """
    try:
        file = path.open("rb")
    except OSError as error:
        raise OptionError(f"{path}: {(error.strerror or str(error)).lower()}") from None
    if file.read(len(MAGIC)) != MAGIC:
        file.close()
        raise OptionError(f"{path} is no recording of this version of glmserve's")
    frames = _frames(file)
    first = next(frames, None)
    try:
        beginning = decode_beginning(first) if first is not None else None
    except msgspec.DecodeError as error:
        raise OptionError(f"{path} is damaged: {error}") from None
    if beginning is None:
        raise OptionError(f"{path} is empty: the server was never ready")
    return beginning, _events(path, frames)


def _events(path: Path, frames: Iterator[bytes]) -> Iterator[Event]:
    for number, frame in enumerate(frames, start=1):
        try:
            yield decode_event(frame)
        except msgspec.DecodeError as error:
            raise OptionError(f"{path} is damaged in event {number}: {error}") from None


def _frames(file: BinaryIO) -> Iterator[bytes]:
    with file:
        while len(header := file.read(HEADER_SIZE)) == HEADER_SIZE:
            size = body_size(header)
            frame = file.read(min(size, _LARGEST_FRAME))
            if len(frame) < size:
                return
            yield frame
