"""Shares of the model for tenants: who has been served least has the next turn.

Each tenant has a virtual counter of the tokens it was served, as in Sheng et al., "Fairness in
Serving Large Language Models" (OSDI 2024): a prompt's token counts once and an output token
twice, in relation to the tenant's weight. Who comes back after a time without requests starts
where the least served of the others are: nobody saves up turns by not asking.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from glmserve.request import Request

_OUTPUT_TOKEN = 1
"""What an output token counts beyond the one that is computed for it."""


@dataclass(slots=True)
class _Account:
    weight: float
    served: float = 0.0
    """Weighted tokens."""
    unfinished: int = 0
    running: int = 0
    tie_break: int = 0
    """Of two who were served alike the newer comes first: it has had nothing yet."""


class FairShares:
    """The accounts of all tenants.

    Args:
        weights: shares in relation to each other, 1 for tenants who are not named.
    """

    def __init__(self, weights: Mapping[str, float]) -> None:
        self._weights = weights
        self._active: dict[str, _Account] = {}
        self._num_opened = 0
        self._idle_counters: dict[str, float] = {}  # counters of tenants without requests

    @property
    def is_contended(self) -> bool:
        """Whether more than one tenant has requests."""
        return len(self._active) > 1

    def unfinished(self, tenant: str) -> int:
        """Its requests that are not over yet."""
        account = self._active.get(tenant)
        return account.unfinished if account else 0

    def running(self, tenant: str) -> int:
        """Those of them that hold blocks."""
        account = self._active.get(tenant)
        return account.running if account else 0

    def weight(self, tenant: str) -> float:
        return self._weights.get(tenant, 1.0)

    def service_order(self, tenant: str) -> tuple[float, int]:
        """Sorts tenants with requests: the least comes first."""
        account = self._active[tenant]
        return account.served, -account.tie_break

    def enter(self, request: Request) -> None:
        """A request has come."""
        account = self._active.get(request.tenant)
        if account is None:
            account = self._active[request.tenant] = self._open(request.tenant)
        account.unfinished += 1

    def leave(self, request: Request) -> None:
        """A request is over, and holds no blocks."""
        account = self._active[request.tenant]
        account.unfinished -= 1
        if not account.unfinished:
            del self._active[request.tenant]
            self._idle_counters[request.tenant] = account.served
            if not self._active:
                self._idle_counters.clear()  # nobody is behind anybody

    def start(self, request: Request) -> None:
        """A request was given blocks."""
        self._active[request.tenant].running += 1

    def stop(self, request: Request) -> None:
        """A request lost its blocks."""
        self._active[request.tenant].running -= 1

    def charge(self, request: Request, num_tokens: int, *, samples: bool) -> None:
        """A step computes this many tokens of a request."""
        account = self._active[request.tenant]
        account.served += (num_tokens + _OUTPUT_TOKEN * samples) / account.weight

    def _open(self, tenant: str) -> _Account:
        least = min((account.served for account in self._active.values()), default=0.0)
        served = max(least, self._idle_counters.pop(tenant, 0.0))
        self._num_opened += 1
        return _Account(self.weight(tenant), served, tie_break=self._num_opened)
