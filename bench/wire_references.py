"""Requests that refer to earlier ones: to ids that the server has given out, and to their keys."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import NamedTuple

from wire_http import WireAnswer
from wire_requests.request import WireRequest

_REFERENCE = re.compile(r"\{\{(try|id|event|key)(?: ([^{}]+?))??(?: (\d+))?\}\}")
_EVENT_ID = re.compile(r"^id: (\S+)$", re.MULTILINE)
_OBJECT_ID = re.compile(r'"id": ?"([^"]+)"')


class Exchange(NamedTuple):
    """A request as it was sent, and its answer."""

    sent: WireRequest
    answer: WireAnswer


def resolved(request: WireRequest, earlier: Mapping[str, Exchange], attempt: int) -> WireRequest:
    """The request with what its references stand for; see WireRequest.

    Args:
        earlier: by the names of their requests.
        attempt: how often this request was sent before.

    Raises:
        LookupError: an earlier exchange lacks what is referred to.
    """

    def value(match: re.Match[str]) -> str:
        kind, name, number = match.groups()
        if kind == "try":
            return str(attempt)
        sent, answer = earlier[name]
        body = answer.body.decode(errors="replace")
        if kind == "key":
            return dict(sent.headers)["Idempotency-Key"]
        if kind == "event":
            return str(_EVENT_ID.findall(body)[int(number)])
        return str(_OBJECT_ID.findall(body)[0])

    def replaced(text: str) -> str:
        return _REFERENCE.sub(value, text)

    body = request.body
    if b"{{" in body:
        body = replaced(body.decode()).encode()
    headers = tuple((name, replaced(text)) for name, text in request.headers)
    return request._replace(path=replaced(request.path), body=body, headers=headers)
