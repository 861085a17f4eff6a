"""The waiting queue: by priority, then whose turn it is, then first come, first served."""

from __future__ import annotations

import heapq

from glmserve.request import Request, RequestStatus
from glmserve.scheduler.fairness import FairShares

_Entry = tuple[int, int, Request]


class WaitingQueue:
    """Requests that hold no blocks.

    Ids grow with arrival, so (priority, id) is the place of a request among its tenant's for all
    its life: a preempted request returns ahead of everybody who came later.
    """

    def __init__(self, shares: FairShares) -> None:
        self._shares = shares
        self._heaps: dict[str, list[_Entry]] = {}  # by tenant, none of them empty
        self._size = 0

    def __len__(self) -> int:
        return self._size

    def push(self, request: Request) -> None:
        """Queue a new or preempted request."""
        heap = self._heaps.setdefault(request.tenant, [])
        heapq.heappush(heap, (request.priority, request.id, request))
        self._size += 1

    def discard(self, request: Request) -> None:
        """Forget a waiting request that just finished; its entry is dropped when it surfaces."""
        self._size -= 1

    def peek(self) -> Request | None:
        """The request that is next, if any."""
        for tenant in list(self._heaps):
            self._drop_finished(tenant)
        if len(self._heaps) > 1:
            return min((heap[0][2] for heap in self._heaps.values()), key=self._place)
        return next((heap[0][2] for heap in self._heaps.values()), None)

    def take(self, request: Request) -> None:
        """Remove a waiting request and mark it running. Out of turn it takes a look at them all."""
        heap = self._heaps[request.tenant]
        if heap[0][2] is request:
            heapq.heappop(heap)
        else:
            heap.remove((request.priority, request.id, request))
            heapq.heapify(heap)
        self._drop_finished(request.tenant)
        self._size -= 1
        request.status = RequestStatus.RUNNING

    def _place(self, request: Request) -> tuple[int, float, int, int]:
        return request.priority, *self._shares.service_order(request.tenant), request.id

    def _drop_finished(self, tenant: str) -> None:
        heap = self._heaps[tenant]
        while heap and heap[0][2].status.is_finished:
            heapq.heappop(heap)
        if not heap:
            del self._heaps[tenant]
