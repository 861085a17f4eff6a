"""The lines of a batch's output and error files, in OpenAI's format."""

from __future__ import annotations

import msgspec

_LINE_ENDS = (
    (b"\xe2\x80\xa8", b"\\u2028"),
    (b"\xe2\x80\xa9", b"\\u2029"),
    (b"\xc2\x85", b"\\u0085"),
)
"""Characters that some clients take for the end of a line. JSON has them in strings only."""


class Response(msgspec.Struct):
    """The answer to a request."""

    status_code: int
    """HTTP's."""
    request_id: str
    body: msgspec.Raw


class Failure(msgspec.Struct):
    """Why a request has no answer."""

    code: str
    message: str


class OutputLine(msgspec.Struct):
    """What became of one request."""

    id: str
    custom_id: str
    response: Response | None
    error: Failure | None


_encode = msgspec.json.Encoder().encode


def answer_line(number: int, custom_id: str, request_id: str, status: int, body: bytes) -> bytes:
    """The line of a request that was answered, with success or without.

    Args:
        number: of the request's line in the input.
        status: HTTP's.
        body: JSON without line ends.
    """
    response = Response(status, request_id, msgspec.Raw(body))
    return _line(OutputLine(_line_id(number), custom_id, response, None))


def failed_line(number: int, custom_id: str, code: str, message: str) -> bytes:
    """The line of a request that was not answered."""
    return _line(OutputLine(_line_id(number), custom_id, None, Failure(code, message)))


def _line_id(number: int) -> str:
    return f"batch_req_{number}"


def _line(line: OutputLine) -> bytes:
    data: bytes = _encode(line)
    for character, escaped in _LINE_ENDS:
        data = data.replace(character, escaped)
    return data + b"\n"
