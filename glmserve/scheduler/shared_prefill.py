"""Requests with one prompt, which the first of them computes for all."""

from __future__ import annotations

from glmserve.request import Request, RequestStatus


class SharedPrefillQueue:
    """Holds the followers of a group until the leader has computed their common prompt.

    Followers then find the prompt in the prefix cache. `len()` is the number of held requests.
    """

    def __init__(self) -> None:
        self._followers: dict[int, list[Request]] = {}  # by the leader's id
        self._size = 0

    def __len__(self) -> int:
        return self._size

    def hold(self, leader: Request, followers: list[Request]) -> None:
        """Hold the followers until the leader has computed the prompt."""
        self._followers[leader.id] = followers
        for request in followers:
            self._size += request.status is not RequestStatus.HELD
            request.status = RequestStatus.HELD

    def release(self, leader: Request) -> list[Request]:
        """The leader's unfinished followers. Each is counted as held until `uncount`."""
        held = self._followers.pop(leader.id, ())
        return [request for request in held if not request.status.is_finished]

    def uncount(self, request: Request) -> None:
        """Stop counting a request that is queued or ends. It need not be a held one."""
        self._size -= request.status is RequestStatus.HELD
