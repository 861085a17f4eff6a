"""Streams whose events do not depend on how busy the machine is.

A server joins the tokens of steps that end while it is still writing, so the same stream may come
in fewer events. The finest of several answers, one event for each step, is always the same.
"""

from __future__ import annotations

from collections.abc import Callable

from wire_http import WireAnswer
from wire_references import Exchange

_AGREEING = 5
_MOST_ATTEMPTS = 40


def finest(send: Callable[[int], Exchange]) -> Exchange:
    """Send a request for a stream until five answers have as many events as the finest one.

    The first answer does not count: only later ones find their whole prompt in the prefix cache.

    Args:
        send: gets the number of the attempt, from 0 on.

    Returns:
        one of the finest; the first answer if it is no stream.
    """
    first = send(0)
    if not is_stream(first.answer):
        return first
    seen: dict[int, list[Exchange]] = {}
    for attempt in range(1, _MOST_ATTEMPTS):
        exchange = send(attempt)
        same = seen.setdefault(num_events(exchange.answer), [])
        same.append(exchange)
        if len(seen[max(seen)]) == _AGREEING:
            break
    return seen[max(seen)][-1]


def is_stream(answer: WireAnswer) -> bool:
    """Whether the answer is one of server-sent events."""
    return any(line.startswith("content-type: text/event-stream") for line in answer.headers)


def num_events(answer: WireAnswer) -> int:
    """How many events the body has."""
    return answer.body.count(b"\n\n")
