"""Which requests may be what crashes the runner."""

from __future__ import annotations

from collections.abc import Iterable

from glmserve.request import Request

MAX_CRASHES = 3
"""Crashed steps in a row, without a token between them, after which a request is given up."""
_CRASHES_TO_SUSPECT = 2
"""Those after which it is computed alone: then nobody else is blamed for the next one."""


class CrashTracker:
    """Requests to be computed one at a time, each until it has gained a token or is over.

    A crash blames every request of its step, and a token clears the one that gained it. So what
    kills runners for reasons of its own, again and again, convicts nobody who advances between.
    """

    def __init__(self) -> None:
        self._requests: dict[int, Request] = {}

    @property
    def next(self) -> Request | None:
        """Who is to be computed alone now, if anybody."""
        return next(iter(self._requests.values()), None)

    def record_crash(self, requests: Iterable[Request]) -> list[Request]:
        """A step with these requests has crashed; those for whom it was one crash too many."""
        poison_requests = []
        for request in requests:
            request.num_crashes += 1
            if request.num_crashes >= _CRASHES_TO_SUSPECT:
                self._requests[request.id] = request
            if request.num_crashes >= MAX_CRASHES:
                poison_requests.append(request)
        return poison_requests

    def clear(self, request: Request) -> None:
        """It has gained a token, or is over."""
        request.num_crashes = 0
        self._requests.pop(request.id, None)
