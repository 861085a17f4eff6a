"""Continuations of a prompt that one of them computes for all."""

from __future__ import annotations

from glmserve.request import Request, RequestStatus


class SharedPrefillQueue:
    """Requests that are not queued before the first of their group has computed their prompt."""

    def __init__(self) -> None:
        self._of: dict[int, list[Request]] = {}  # by the id of who computes
        self._size = 0

    def __len__(self) -> int:
        return self._size

    def hold(self, leader: Request, others: list[Request]) -> None:
        """Let the others wait for the leader's prompt."""
        self._of[leader.id] = others
        for request in others:
            self._size += request.status is not RequestStatus.HELD
            request.status = RequestStatus.HELD

    def release(self, leader: Request) -> list[Request]:
        """Those who waited for this request, and are not over; they stay counted until `leave`."""
        held = self._of.pop(leader.id, ())
        return [request for request in held if not request.status.is_finished]

    def leave(self, request: Request) -> None:
        """A request that may have been held is queued now, or over."""
        self._size -= request.status is RequestStatus.HELD
