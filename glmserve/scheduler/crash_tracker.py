"""Finds the requests that crash the runner."""

from __future__ import annotations

from collections.abc import Iterable

from glmserve.request import Request

MAX_CRASHES = 3
"""A request fails after this many crashed steps in a row, without a token in between."""
_CRASHES_TO_ISOLATE = 2
"""After this many it is computed alone, so that the next crash counts for no other request."""


class CrashTracker:
    """Counts the crashes of each request, and names the suspects to compute one at a time.

    A crash counts for every request of its step. A token clears the request that gained it. So if
    the runner crashes for other reasons, requests that gain tokens in between are not failed.
    """

    def __init__(self) -> None:
        self._suspects: dict[int, Request] = {}

    @property
    def next_suspect(self) -> Request | None:
        """The request to compute alone now, or None."""
        return next(iter(self._suspects.values()), None)

    def record_crash(self, requests: Iterable[Request]) -> list[Request]:
        """Count a crash for each request of the step that crashed.

        Returns:
            The requests that have reached MAX_CRASHES.
        """
        poison_requests = []
        for request in requests:
            request.num_crashes += 1
            if request.num_crashes >= _CRASHES_TO_ISOLATE:
                self._suspects[request.id] = request
            if request.num_crashes >= MAX_CRASHES:
                poison_requests.append(request)
        return poison_requests

    def clear(self, request: Request) -> None:
        """Reset the count of a request that gained a token or has ended."""
        request.num_crashes = 0
        self._suspects.pop(request.id, None)
