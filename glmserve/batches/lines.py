"""The lines of a batch's input file, in OpenAI's format.

A line is a JSON object: `{"custom_id": …, "method": "POST", "url": "/v1/…", "body": {…}}`.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import BinaryIO, Literal, NamedTuple

import msgspec

from glmserve.batches.id_set import IdSet

Endpoint = Literal["/v1/chat/completions", "/v1/completions", "/v1/embeddings", "/v1/responses"]
ENDPOINTS: tuple[str, ...] = Endpoint.__args__  # type: ignore[attr-defined]

_ENVELOPE = 4096
"""Bytes of a line beside its body."""
_LONGEST_ID = 512  # characters
_BOM = b"\xef\xbb\xbf"


class InputLine(NamedTuple):
    """A request in a file."""

    number: int
    """Of the line in the file; the first is 1."""
    custom_id: str
    url: str
    body: bytes
    """JSON: the request's body."""


class LineError(Exception):
    """A line is no request.

    Args:
        message: what to change.
        code: what kind of error it is.
        line: its number; None: the file as a whole is wrong.
        param: the field that is wrong.
    """

    def __init__(
        self, message: str, code: str, line: int | None = None, param: str | None = None
    ) -> None:
        super().__init__(message)
        self.message = message
        self.code = code
        self.line = line
        self.param = param


class _Line(msgspec.Struct, forbid_unknown_fields=True):
    custom_id: str
    method: str
    url: str
    body: msgspec.Raw


_decode = msgspec.json.Decoder(_Line).decode


def read_lines(
    file: BinaryIO, max_body_size: int, endpoint: str | None = None
) -> Iterator[InputLine | LineError]:
    """The requests of a file. Empty lines are skipped.

    A byte order mark and ends of lines as on Windows are accepted. No more of the file is in memory
    than one line.

    Args:
        file: opened in binary mode.
        max_body_size: bytes of the longest body.
        endpoint: which all lines must ask; None: each asks one of ENDPOINTS.

    Yields:
        A request or what is wrong with it. Nothing follows a line that is too long.
    """
    longest, number = max_body_size + _ENVELOPE, 0
    while data := file.readline(longest + 1):
        number += 1
        if len(data) > longest:
            yield LineError(
                f"the line is longer than {longest} bytes (the largest body is {max_body_size})",
                "line_too_long",
                number,
            )
            return
        if number == 1:
            data = data.removeprefix(_BOM)
        if data.strip():
            yield _parsed(data, number, endpoint)


def _parsed(data: bytes, number: int, endpoint: str | None) -> InputLine | LineError:
    try:
        data.decode()
        line = _decode(data)
    except UnicodeDecodeError as error:
        return LineError(f"the line is not UTF-8: {error}", "invalid_json_line", number)
    except msgspec.ValidationError as error:
        return LineError(_plain(error), "invalid_line", number, _field(error))
    except (msgspec.DecodeError, RecursionError) as error:
        return LineError(f"the line is not a JSON object: {error}", "invalid_json_line", number)
    return _problem(line, number, endpoint) or InputLine(
        number, line.custom_id, line.url, bytes(line.body)
    )


def _problem(line: _Line, number: int, endpoint: str | None) -> LineError | None:
    if not 1 <= len(line.custom_id) <= _LONGEST_ID:
        return LineError(
            f"custom_id must have 1 to {_LONGEST_ID} characters",
            "invalid_custom_id",
            number,
            "custom_id",
        )
    if line.method != "POST":
        return LineError("method must be 'POST'", "invalid_method", number, "method")
    if endpoint is not None and line.url != endpoint:
        return LineError(
            f"url must be the batch's endpoint, {endpoint!r}", "mismatched_url", number, "url"
        )
    if line.url not in ENDPOINTS:
        return LineError(f"url must be one of {', '.join(ENDPOINTS)}", "invalid_url", number, "url")
    if not bytes(line.body).startswith(b"{"):
        return LineError("body must be an object", "invalid_body", number, "body")
    return None


def _plain(error: msgspec.ValidationError) -> str:
    """msgspec's words, with the field in front of them."""
    words = str(error)
    field = _field(error)
    return f"{field}: {words}" if field else words


def _field(error: msgspec.ValidationError) -> str | None:
    _, found, path = str(error).partition(" - at `$.")
    if found:
        return path.rstrip("`")
    _, found, rest = str(error).partition("field `")
    return rest.partition("`")[0] if found else None


def check_lines(
    file: BinaryIO, max_body_size: int, max_lines: int, endpoint: str | None, max_errors: int
) -> tuple[int, list[LineError]]:
    """Read a whole file and look for errors.

    Args:
        file, max_body_size, endpoint: see read_lines.
        max_lines: the most requests that a file may have; 0: no limit.
        max_errors: no more are looked for.

    Returns:
        The number of requests; and the errors, in the order of lines.
    """
    ids, errors, count = IdSet(), list[LineError](), 0
    for item in read_lines(file, max_body_size, endpoint):
        count += 1
        if isinstance(item, LineError):
            errors.append(item)
        elif not ids.add(item.custom_id):
            errors.append(
                LineError(
                    f"custom_id {item.custom_id[:100]!r} is that of an earlier line, too",
                    "duplicate_custom_id",
                    item.number,
                    "custom_id",
                )
            )
        elif max_lines and count > max_lines:
            errors.append(LineError(f"the file has more than {max_lines} lines", "too_many_lines"))
            break
        if len(errors) >= max_errors:
            break
    if not count:
        errors.append(LineError("the file has no lines", "empty_file"))
    return count, errors
