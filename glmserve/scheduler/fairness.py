"""Fair shares of the model for tenants: the least served tenant is next.

Each tenant has a virtual counter of the tokens it was served, as in Sheng et al., "Fairness in
Serving Large Language Models" (OSDI 2024). A prompt token counts once and an output token twice,
divided by the tenant's weight. A tenant that returns after a time without requests continues at
the lowest counter of the active tenants, if its own is lower. So a tenant gains no credit while
it is idle.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from glmserve.request import Request

_OUTPUT_TOKEN_SURCHARGE = 1
"""Extra cost of a sampled token, beyond the one token that is computed for it."""


@dataclass(slots=True)
class _Account:
    weight: float
    served: float = 0.0
    """Tokens divided by the weight."""
    unfinished: int = 0
    running: int = 0
    tie_break: int = 0
    """Among equal counters the newer tenant goes first: it has received nothing yet."""


class FairShares:
    """The accounts of all tenants.

    Args:
        weights: relative share by tenant; a tenant that is missing has 1.
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

    @property
    def num_requests(self) -> int:
        """Number of requests that have not ended."""
        return sum(account.unfinished for account in self._active.values())

    def num_unfinished(self, tenant: str) -> int:
        """Number of the tenant's requests that have not ended."""
        account = self._active.get(tenant)
        return account.unfinished if account else 0

    def num_running(self, tenant: str) -> int:
        """Number of the tenant's requests that hold blocks."""
        account = self._active.get(tenant)
        return account.running if account else 0

    def weight(self, tenant: str) -> float:
        """The tenant's share in relation to other tenants."""
        return self._weights.get(tenant, 1.0)

    def service_order(self, tenant: str) -> tuple[float, int]:
        """Sort key of a tenant with requests; the smallest is served next."""
        account = self._active[tenant]
        return account.served, -account.tie_break

    def enter(self, request: Request) -> None:
        """Count a new request."""
        account = self._active.get(request.tenant)
        if account is None:
            account = self._active[request.tenant] = self._open_account(request.tenant)
        account.unfinished += 1

    def leave(self, request: Request) -> None:
        """Count a request as ended. It must hold no blocks."""
        account = self._active[request.tenant]
        account.unfinished -= 1
        if not account.unfinished:
            del self._active[request.tenant]
            self._idle_counters[request.tenant] = account.served
            if not self._active:
                self._idle_counters.clear()  # without active tenants all start equal

    def start(self, request: Request) -> None:
        """Count a request that received blocks."""
        self._active[request.tenant].running += 1

    def stop(self, request: Request) -> None:
        """Count a request that lost its blocks."""
        self._active[request.tenant].running -= 1

    def charge(self, request: Request, num_tokens: int, *, samples: bool) -> None:
        """Charge the request's tenant for the tokens that a step computes.

        Args:
            num_tokens: number of tokens that the step computes.
            samples: whether the step also samples a token.
        """
        account = self._active[request.tenant]
        account.served += (num_tokens + _OUTPUT_TOKEN_SURCHARGE * samples) / account.weight

    def _open_account(self, tenant: str) -> _Account:
        least = min((account.served for account in self._active.values()), default=0.0)
        served = max(least, self._idle_counters.pop(tenant, 0.0))
        self._num_opened += 1
        return _Account(self.weight(tenant), served, tie_break=self._num_opened)
