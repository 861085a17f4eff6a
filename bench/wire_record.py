"""What is kept of one request and its answer, and what of it differs from run to run."""

from __future__ import annotations

import re
from collections.abc import Iterator

from wire_http import WireAnswer
from wire_requests.request import WireRequest

_LONGEST_REQUEST = 2000  # characters of a request's body that are kept

_ID = re.compile(r"(?<![0-9a-f])(?:[0-9a-f]{32}|[0-9a-f]{24})(?![0-9a-f])")
"""What glmserve puts behind chatcmpl-, resp_, call_ and the like; ids of requests and streams."""
_TIMES = re.compile(r'("(?:created|created_at|completed_at)": ?)\d{10}\b')
_HEADERS = re.compile(
    r"^(date|last-modified|x-ratelimit-remaining-tokens|x-ratelimit-reset-tokens): .*$",
    re.MULTILINE | re.IGNORECASE,
)
_PORT = re.compile(r"\b(127\.0\.0\.1|localhost):\d+")
_SAMPLE = re.compile(r"^(\w+(?:\{.*\})?) \S+$", re.MULTILINE)
"""A line of Prometheus's text format."""
_ALLOWED = re.compile(r"^allow: (.*)$", re.MULTILINE)
"""Starlette makes it of a set."""
_LENGTH = re.compile(r"^(content-length): \d+$", re.MULTILINE | re.IGNORECASE)


def record_of(request: WireRequest, answer: WireAnswer) -> str:
    """The text that is compared: request, head and body, without what differs in every run."""
    asked = [f"{request.method} {request.path}", *(f"{k}: {v}" for k, v in request.headers)]
    sent = request.body.decode(errors="backslashreplace")
    if len(sent) > _LONGEST_REQUEST:
        sent = f"{sent[:_LONGEST_REQUEST]}... ({len(sent)} characters)"
    head, body = answer.head, answer.body.decode(errors="backslashreplace")
    if request.path == "/metrics":
        body, head = _SAMPLE.sub(r"\1 <value>", body), _LENGTH.sub(r"\1: <length>", head)
    head = _ALLOWED.sub(lambda m: f"allow: {', '.join(sorted(m[1].split(', ')))}", head)
    head = _HEADERS.sub(r"\1: <volatile>", head)
    text = "\n".join([*asked, "", sent, "", "--- answer", head, "", body])
    return numbered_ids(_PORT.sub(r"\1:<port>", _TIMES.sub(r"\1<time>", text)))


def numbered_ids(text: str) -> str:
    """Each random id replaced by its length and the number of different ones before it.

    Equal ids stay equal, so a text that repeats an id still differs from one that does not.
    """
    numbers: dict[str, int] = {}

    def number(match: re.Match[str]) -> str:
        return f"<id{len(match[0])} {numbers.setdefault(match[0], len(numbers))}>"

    return _ID.sub(number, text)


def readable_lines(text: str) -> Iterator[str]:
    """Lines for people: JSON is broken behind commas and opening brackets."""
    for line in text.splitlines():
        yield from re.sub(r'(?<=[,{\[])(?=["{\[])', "\n", line).split("\n")
