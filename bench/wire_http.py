"""HTTP/1.1 over a plain socket, with every byte of the answer seen."""

from __future__ import annotations

import socket
from collections.abc import Sequence
from typing import BinaryIO, NamedTuple

_TIMEOUT = 60.0  # seconds without a byte


class WireAnswer(NamedTuple):
    """An answer as it came, but for the chunks of its body, which are joined."""

    status_line: str
    headers: tuple[str, ...]
    """Lines, in their order."""
    body: bytes

    @property
    def head(self) -> str:
        """Status line and headers."""
        return "\n".join((self.status_line, *self.headers))


def exchange(
    address: tuple[str, int],
    method: str,
    path: str,
    headers: Sequence[tuple[str, str]],
    body: bytes,
) -> WireAnswer:
    """Send one request over a connection of its own, and read the whole answer.

    Raises:
        OSError, EOFError: the connection ended before the answer did.
        ValueError: the answer is no HTTP/1.1.
    """
    with socket.create_connection(address, _TIMEOUT) as connection:
        connection.sendall(_head(address, method, path, headers, body) + body)
        with connection.makefile("rb") as stream:
            return read_answer(stream, has_body=method != "HEAD")


def read_answer(stream: BinaryIO, has_body: bool = True) -> WireAnswer:
    """Read an answer; see `exchange` for what is raised."""
    status_line = _line(stream)
    if not status_line.startswith("HTTP/1.1 "):
        raise ValueError(f"no HTTP/1.1 answer: {status_line!r}")
    headers = []
    while line := _line(stream):
        headers.append(line)
    values = {name.lower(): value.strip() for name, _, value in (h.partition(":") for h in headers)}
    body = b""
    if has_body and values.get("transfer-encoding") == "chunked":
        body = _chunks(stream)
    elif has_body:
        body = _exactly(stream, int(values.get("content-length", "0")))
    return WireAnswer(status_line, tuple(headers), body)


def _head(
    address: tuple[str, int],
    method: str,
    path: str,
    headers: Sequence[tuple[str, str]],
    body: bytes,
) -> bytes:
    named = {name.lower() for name, _ in headers}
    lines = [f"{method} {path} HTTP/1.1", f"Host: {address[0]}:{address[1]}"]
    if method == "POST" and "content-type" not in named:
        lines.append("Content-Type: application/json")
    if (body or method == "POST") and "content-length" not in named:
        lines.append(f"Content-Length: {len(body)}")
    lines += [f"{name}: {value}" for name, value in headers]
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")


def _chunks(stream: BinaryIO) -> bytes:
    """The body of https://www.rfc-editor.org/rfc/rfc9112#section-7.1, without trailers."""
    body = b""
    while size := int(_line(stream), 16):
        body += _exactly(stream, size)
        if _line(stream):
            raise ValueError("a chunk is longer than it says")
    while _line(stream):
        pass
    return body


def _line(stream: BinaryIO) -> str:
    line = stream.readline()
    if not line.endswith(b"\r\n"):
        raise EOFError("the connection ended in the middle of an answer")
    return line[:-2].decode("latin-1")


def _exactly(stream: BinaryIO, size: int) -> bytes:
    data = stream.read(size)
    if len(data) < size:
        raise EOFError("the connection ended in the middle of a body")
    return data
