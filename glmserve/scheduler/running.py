"""The requests that hold blocks, and who of them yields to others."""

from __future__ import annotations

from bisect import insort
from collections import Counter
from collections.abc import Callable, Iterator

from glmserve.request import Request
from glmserve.scheduler.fairness import FairShares


class RunningRequests:
    """By rank: priority, then arrival. The last yields first where nobody has more than others."""

    def __init__(self, shares: FairShares) -> None:
        self._shares = shares
        self._requests: list[Request] = []

    def __len__(self) -> int:
        return len(self._requests)

    def __iter__(self) -> Iterator[Request]:
        return iter(self._requests)

    def add(self, request: Request) -> None:
        insort(self._requests, request, key=_rank)
        self._shares.start(request)

    def remove(self, request: Request) -> None:
        self._requests.remove(request)
        self._shares.stop(request)

    def split(self) -> tuple[list[Request], list[Request]]:
        """Those that lack one token, and those that lack more, by rank."""
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
        """Who yields when blocks run out.

        Of the least urgent requests, the youngest of the tenant who has most of them. As long as
        others are left it is not the oldest: the first in rank always advances, so all end.
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
        """Who has to yield to a waiting request so that its tenant gets its share, if anybody.

        Nobody, unless the other tenant still has as much as this one when it has yielded: so
        nothing is taken back and forth.

        Args:
            usage: how much a running request has of what is scarce.
            wanted: how much the waiting one needs.
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
        richest = max(others, key=load, default=None)
        if richest is None:
            return None
        theirs = (used[richest.tenant] - usage(richest)) / self._shares.weight(richest.tenant)
        ours = (used[request.tenant] + wanted) / self._shares.weight(request.tenant)
        return richest if theirs >= ours else None


def _rank(request: Request) -> tuple[int, int]:
    return request.priority, request.id
