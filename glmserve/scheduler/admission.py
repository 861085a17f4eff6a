"""The waiting queue: by priority, then by tenant (the least served first), then by arrival."""

from __future__ import annotations

import heapq

from glmserve.request import Request, RequestStatus
from glmserve.scheduler.fairness import FairShares

_Entry = tuple[int, int, Request]


class WaitingQueue:
    """Requests that hold no blocks.

    Ids grow with arrival, and a request keeps its (priority, id). So a preempted request returns
    ahead of all requests of its tenant and priority that arrived later.
    """

    def __init__(self, shares: FairShares) -> None:
        self._shares = shares
        self.taken: list[Request] = []
        """Requests that were taken; Scheduler.take_begun empties it."""
        self._heaps: dict[str, list[_Entry]] = {}  # by tenant; no heap is empty
        self._size = 0

    def __len__(self) -> int:
        return self._size

    def push(self, request: Request) -> None:
        """Queue a new or preempted request."""
        heap = self._heaps.setdefault(request.tenant, [])
        heapq.heappush(heap, (request.priority, request.id, request))
        self._size += 1

    def discard(self, request: Request) -> None:
        """Stop counting a request that finished; its heap entry is dropped when it surfaces."""
        self._size -= 1

    def peek(self) -> Request | None:
        """The next request to start, or None if the queue is empty."""
        for tenant in list(self._heaps):
            self._drop_finished(tenant)
        if len(self._heaps) > 1:
            return min((heap[0][2] for heap in self._heaps.values()), key=self._service_order)
        return next((heap[0][2] for heap in self._heaps.values()), None)

    def take(self, request: Request) -> None:
        """Remove a waiting request and mark it running.

        O(log n) for its tenant's first request, O(n) for any other.
        """
        heap = self._heaps[request.tenant]
        if heap[0][2] is request:
            heapq.heappop(heap)
        else:
            heap.remove((request.priority, request.id, request))
            heapq.heapify(heap)
        self._drop_finished(request.tenant)
        self._size -= 1
        request.status = RequestStatus.RUNNING
        self.taken.append(request)

    def _service_order(self, request: Request) -> tuple[int, float, int, int]:
        return request.priority, *self._shares.service_order(request.tenant), request.id

    def _drop_finished(self, tenant: str) -> None:
        heap = self._heaps[tenant]
        while heap and heap[0][2].status.is_finished:
            heapq.heappop(heap)
        if not heap:
            del self._heaps[tenant]
