"""multipart/form-data, parsed piece by piece (RFC 7578)."""

from __future__ import annotations

import re
from collections.abc import Iterator
from email.message import Message
from typing import NamedTuple

from glmserve.errors import InvalidRequestError

_LONGEST_HEAD = 8 * 1024  # bytes of a part's headers
_MOST_PARTS = 16
_BOUNDARY = re.compile(r"[0-9A-Za-z'()+_,\-./:=? ]{0,69}[0-9A-Za-z'()+_,\-./:=?]")  # RFC 2046
_PLAIN = ("7bit", "8bit", "binary")
"""Transfer encodings that change nothing."""


class PartBegin(NamedTuple):
    """A part begins."""

    name: str
    filename: str | None


class PartData(NamedTuple):
    """A piece of a part's contents."""

    data: bytes


class PartEnd(NamedTuple):
    """The part is complete."""


Event = PartBegin | PartData | PartEnd


def boundary_of(content_type: str) -> bytes:
    """The boundary between parts.

    Raises:
        InvalidRequestError: the content type is not multipart/form-data, or has no valid boundary.
    """
    message = Message()
    message["content-type"] = content_type
    boundary = message.get_param("boundary")
    if message.get_content_type() != "multipart/form-data":
        raise InvalidRequestError(
            "the body must be multipart/form-data, with the fields purpose and file"
        )
    if not isinstance(boundary, str) or not _BOUNDARY.fullmatch(boundary):
        raise InvalidRequestError("the content type multipart/form-data needs a boundary")
    return boundary.encode()


class MultipartParser:
    """Turns bytes into events.

    Args:
        boundary: see `boundary_of`.
    """

    def __init__(self, boundary: bytes) -> None:
        self._delimiter = b"\r\n--" + boundary
        self._buffer = b"\r\n"  # so that the first delimiter is like the others
        self._read = self._preamble
        self._num_parts = 0
        self.is_complete = False
        """Whether the last delimiter has come."""

    def feed(self, data: bytes) -> Iterator[Event]:
        """The events that follow from more bytes. Must be read to its end.

        Raises:
            InvalidRequestError: the bytes are no form.
        """
        self._buffer += data
        while (events := self._read()) is not None:
            yield from events

    def _preamble(self) -> list[Event] | None:
        """Skip what is before the first delimiter."""
        found = self._buffer.find(self._delimiter)
        if found < 0:
            self._buffer = self._buffer[-len(self._delimiter) :]
            return None
        self._buffer = self._buffer[found + len(self._delimiter) :]
        self._read = self._delimiter_end
        return []

    def _delimiter_end(self) -> list[Event] | None:
        """What follows a delimiter: two hyphens after the last part, or padding and a line end."""
        if len(self._buffer) < len(b"--"):
            return None
        if self._buffer.startswith(b"--"):
            self.is_complete = True
            self._read = self._epilogue
            return []
        line, found, rest = self._buffer.partition(b"\r\n")
        if line.strip(b" \t") or len(line) > _LONGEST_HEAD:
            if line.strip(b" \t") == b"\r" and not found:
                return None
            raise InvalidRequestError("the form has a boundary in the middle of a line")
        if not found:
            return None
        self._buffer = b"\r\n" + rest  # a part may have no headers
        self._read = self._head
        return []

    def _head(self) -> list[Event] | None:
        head, found, rest = self._buffer.partition(b"\r\n\r\n")
        if len(head) > _LONGEST_HEAD:
            raise InvalidRequestError("the form has a part with very long headers")
        if not found:
            return None
        self._num_parts += 1
        if self._num_parts > _MOST_PARTS:
            raise InvalidRequestError(f"the form has more than {_MOST_PARTS} parts")
        self._buffer = rest
        self._read = self._data
        return [_begin(head)]

    def _data(self) -> list[Event] | None:
        found = self._buffer.find(self._delimiter)
        if found >= 0:
            data, self._buffer = (
                self._buffer[:found],
                self._buffer[found + len(self._delimiter) :],
            )
            self._read = self._delimiter_end
            return [PartData(data), PartEnd()]
        safe = len(self._buffer) - len(self._delimiter) + 1
        if safe <= 0:
            return None
        data, self._buffer = self._buffer[:safe], self._buffer[safe:]
        return [PartData(data)]

    def _epilogue(self) -> list[Event] | None:
        """Whatever follows the last part means nothing."""
        self._buffer = b""
        return None


def _begin(head: bytes) -> PartBegin:
    message = Message()
    for line in head.decode("utf-8", "replace").split("\r\n"):
        name, found, value = line.partition(":")
        if found and re.fullmatch(r"[!-9;-~]+", name):
            message[name] = value.strip()
    if message.get("content-transfer-encoding", "binary").lower() not in _PLAIN:
        raise InvalidRequestError("leave out the Content-Transfer-Encoding of the form's parts")
    field = message.get_param("name", header="content-disposition")
    if not isinstance(field, str):
        raise InvalidRequestError("a part of the form has no name")
    return PartBegin(field, message.get_filename())
