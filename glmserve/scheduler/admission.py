"""The waiting queue: by priority, then first come, first served."""

from __future__ import annotations

import heapq

from glmserve.request import Request, RequestStatus


class WaitingQueue:
    """Requests that hold no blocks.

    Ids grow with arrival, so (priority, id) is the place of a request for all its life: a
    preempted request returns ahead of everybody who came later.
    """

    def __init__(self) -> None:
        self._heap: list[tuple[int, int, Request]] = []
        self._size = 0

    def __len__(self) -> int:
        return self._size

    def push(self, request: Request) -> None:
        """Queue a new or preempted request."""
        heapq.heappush(self._heap, (request.priority, request.id, request))
        self._size += 1

    def discard(self, request: Request) -> None:
        """Forget a waiting request that just finished; its entry is dropped when it surfaces."""
        self._size -= 1

    def peek(self) -> Request | None:
        """The request that is next, if any."""
        while self._heap:
            request = self._heap[0][2]
            if not request.status.is_finished:
                return request
            heapq.heappop(self._heap)
        return None

    def pop(self) -> Request:
        """Remove the request that `peek` showed and mark it running."""
        request = heapq.heappop(self._heap)[2]
        self._size -= 1
        request.status = RequestStatus.RUNNING
        return request

    def take(self, request: Request) -> None:
        """Remove a waiting request out of turn and mark it running. Looks through all of them."""
        self._heap.remove((request.priority, request.id, request))
        heapq.heapify(self._heap)
        self._size -= 1
        request.status = RequestStatus.RUNNING
