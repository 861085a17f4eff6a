"""The requests that hold blocks, and which of them to preempt."""

from __future__ import annotations

from bisect import insort
from collections import Counter
from collections.abc import Callable, Iterator

from glmserve.request import Request
from glmserve.scheduler.fairness import FairShares


class RunningRequests:
    """Sorted by (priority, arrival). The last is preempted first, unless a tenant has more requests
    than others."""

    def __init__(self, shares: FairShares) -> None:
        self._shares = shares
        self._requests: list[Request] = []

    def __len__(self) -> int:
        return len(self._requests)

    def __iter__(self) -> Iterator[Request]:
        return iter(self._requests)

    def add(self, request: Request) -> None:
        """Add a request that received blocks."""
        insort(self._requests, request, key=_rank)
        self._shares.start(request)

    def remove(self, request: Request) -> None:
        """Remove a request that loses its blocks."""
        self._requests.remove(request)
        self._shares.stop(request)

    def split(self) -> tuple[list[Request], list[Request]]:
        """Requests with one unscheduled token (decodes), and those with more (prompt chunks).

        Both are in the order of (priority, arrival).
        """
        decodes, chunks = [], []
        for request in self._requests:
            num_tokens = request.num_unscheduled_tokens
            if num_tokens == 1:
                decodes.append(request)
            elif num_tokens:
                chunks.append(request)
        return decodes, chunks

    @property
    def victim(self) -> Request:
        """The request to preempt when blocks run out.

        It is the youngest of the least urgent requests of the tenant with the most of them. While
        several requests run, the first in rank is never chosen. So it always advances, and every
        request ends.
        """
        youngest_first = self._requests[::-1]
        last = youngest_first[0]
        if not self._shares.is_contended:
            return last
        candidates = [request for request in youngest_first if request.priority == last.priority]
        count = Counter(request.tenant for request in candidates)

        def load(request: Request) -> float:
            number = count[request.tenant]
            return number / self._shares.weight(request.tenant) if number > 1 else 0.0

        return max(candidates, key=load)

    def over_share_victim(
        self, request: Request, usage: Callable[[Request], int], wanted: int
    ) -> Request | None:
        """The request of another tenant to preempt so that `request`'s tenant gets its share.

        None unless the other tenant keeps at least as much as this one then has. So two tenants
        never preempt each other's requests in turn.

        Args:
            usage: how much of the scarce resource (places or blocks) a running request holds.
            wanted: how much of it `request` needs.
        """
        if not self._shares.is_contended:
            return None
        used = Counter[str]()
        for other in self._requests:
            used[other.tenant] += usage(other)

        def load(other: Request) -> float:
            return used[other.tenant] / self._shares.weight(other.tenant)

        others = [
            other
            for other in reversed(self._requests)
            if other.tenant != request.tenant and other.priority >= request.priority
        ]
        victim = max(others, key=load, default=None)
        if victim is None:
            return None
        theirs = (used[victim.tenant] - usage(victim)) / self._shares.weight(victim.tenant)
        ours = (used[request.tenant] + wanted) / self._shares.weight(request.tenant)
        return victim if theirs >= ours else None


def _rank(request: Request) -> tuple[int, int]:
    return request.priority, request.id
