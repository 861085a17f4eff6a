"""A line for each answered request: figures and names, never content."""

from __future__ import annotations

import contextlib
import logging
import queue
import threading
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import TextIO

import msgspec
from msgspec import UNSET, UnsetType

from glmserve.api.http.access import AccessRecord

logger = logging.getLogger(__name__)

_MOST_WAITING_LINES = 10_000
"""Lines that wait for a slow reader of the output. Further ones are dropped."""
_CLOSING_SECONDS = 2.0


class Line(msgspec.Struct, omit_defaults=True):
    """The fields of a line, in this order."""

    time: str
    """When the request came: UTC, RFC 3339."""
    id: str
    """Of the header X-Request-Id."""
    method: str
    route: str
    status: int
    seconds: float
    """From the request's head to the end of the answer."""
    key: str | UnsetType = UNSET
    """Name of the API key."""
    adapter: str | UnsetType = UNSET
    """Name of the adapter that answered."""
    prompt_tokens: int | UnsetType = UNSET
    cached_tokens: int | UnsetType = UNSET
    """Prompt tokens that the prefix cache had."""
    output_tokens: int | UnsetType = UNSET
    queue_seconds: float | UnsetType = UNSET
    """From the engine's receipt of the request until the first choice was given blocks."""
    first_token_seconds: float | UnsetType = UNSET
    """From the engine's receipt of the request to the first token of any choice."""
    finish_reasons: str | UnsetType = UNSET
    """Of the choices, joined by commas."""


def line_of(record: AccessRecord) -> Line:
    """The line about a request."""
    moment = datetime.fromtimestamp(record.began, UTC)
    line = Line(
        moment.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        record.request_id,
        record.method,
        record.route,
        record.status,
        round(record.seconds, 6),
        record.tenant or UNSET,
    )
    generation = record.generation
    if generation is not None:
        if generation.adapter is not None:
            line.adapter = generation.adapter.name
        usage = generation.usage()
        line.prompt_tokens = usage.prompt_tokens
        line.cached_tokens = usage.prompt_tokens_details.cached_tokens
        line.output_tokens = usage.completion_tokens
        line.finish_reasons = ",".join(choice.finish_reason for choice in generation.choices)
        streams = [choice.tokens for choice in generation.choices]
        line.queue_seconds = _shortest((s.arrival, s.begun) for s in streams)
        line.first_token_seconds = _shortest((s.arrival, s.first_token) for s in streams)
    return line


def _shortest(times: Iterable[tuple[float, float | None]]) -> float | UnsetType:
    """The least time from a start to an end, in seconds; UNSET if nothing has ended."""
    lengths = [end - start for start, end in times if end is not None]
    return round(min(lengths), 6) if lengths else UNSET


def as_json(line: Line) -> str:
    """The line as a JSON object."""
    return msgspec.json.encode(line).decode()


def as_text(line: Line) -> str:
    """The line for people: the main fields, then `name=value`, with quotes around several words."""
    fields = msgspec.to_builtins(line)
    main = [str(fields.pop(name)) for name in ("time", "method", "route", "status")]
    return " ".join([*main, *(f"{name}={_word(str(value))}" for name, value in fields.items())])


def _word(text: str) -> str:
    """The text, as a JSON string if it is no single word."""
    if text.isprintable() and not set(' "=') & set(text):
        return text
    return msgspec.json.encode(text).decode()


FORMATS = {"json": as_json, "text": as_text}
"""By the values of --access-log."""


class AccessLog:
    """An observer of answered requests that writes lines on a thread of its own, so that a slow
    disk or reader holds up no answer.

    Args:
        output: where the lines go.
        write_as: one of FORMATS.
    """

    def __init__(self, output: TextIO, write_as: str) -> None:
        self._format = FORMATS[write_as]
        self._output = output
        self._lines: queue.Queue[str | None] = queue.Queue(_MOST_WAITING_LINES)
        self._num_dropped = 0
        self._thread = threading.Thread(target=self._write, name="access-log", daemon=True)
        self._thread.start()

    def __call__(self, record: AccessRecord) -> None:
        """Write a line about a request, unless too many wait."""
        try:
            self._lines.put_nowait(self._format(line_of(record)))
        except queue.Full:
            self._num_dropped += 1
            if self._num_dropped == 1:
                logger.warning("lines of the access log are dropped: nothing reads them")

    def close(self) -> None:
        """Write what waits, within two seconds."""
        with contextlib.suppress(queue.Full):
            self._lines.put(None, timeout=_CLOSING_SECONDS)
        self._thread.join(_CLOSING_SECONDS)

    def _write(self) -> None:
        with contextlib.suppress(OSError, ValueError):  # closed by its reader, or by this process
            while (line := self._lines.get()) is not None:
                self._output.write(f"{line}\n")
                if self._lines.empty():
                    self._output.flush()
            self._output.flush()
