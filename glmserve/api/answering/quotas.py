"""Limits of each API key: requests at once, and tokens per minute."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from glmserve.config import Tenant
from glmserve.errors import RateLimitError
from glmserve.request import Request

_MINUTE = 60.0


class Lease:
    """One request that counts against its tenant's limits; its output is charged as it grows."""

    def __init__(self, account: Account) -> None:
        self._account = account
        self._requests: Sequence[Request] = ()
        self._num_charged = 0

    def watch(self, requests: Sequence[Request]) -> None:
        """Charge the output of these sequences."""
        self._requests = requests

    def newly_generated(self) -> int:
        """Output tokens since the last call."""
        total = sum(request.num_output_tokens for request in self._requests)
        new, self._num_charged = total - self._num_charged, total
        return new

    def release(self) -> None:
        """The request is over. Releasing it twice is harmless."""
        self._account.release(self)


class Account:
    """A tenant's running requests, and a bucket that fills steadily with tokens.

    Prompts are taken out when they arrive, output as it is generated. Output may take the level
    below 0; then the next request waits until the bucket has filled up.
    """

    def __init__(self, tenant: Tenant, clock: Callable[[], float]) -> None:
        self._tenant = tenant
        self._clock = clock
        self._leases: set[Lease] = set()
        self._level = float(tenant.tokens_per_minute)
        self._last = clock()

    def admit(self, num_prompt_tokens: int) -> Lease:
        """Let a request begin.

        Raises:
            RateLimitError: it has to wait.
        """
        limit = self._tenant.max_requests
        if limit and len(self._leases) >= limit:
            raise RateLimitError(
                f"this API key may have {limit} requests under way at once, and has them; wait for "
                "one to end",
                retry_after=1.0,
            )
        if self._tenant.tokens_per_minute:
            self._take(num_prompt_tokens)
        lease = Lease(self)
        self._leases.add(lease)
        return lease

    def release(self, lease: Lease) -> None:
        """See Lease.release."""
        if lease in self._leases:
            self._leases.remove(lease)
            self._level -= lease.newly_generated()

    @property
    def level(self) -> float:
        """Tokens in the bucket; below 0: tokens that were used in advance."""
        now = self._clock()
        most = float(self._tenant.tokens_per_minute)
        filled = self._level + (now - self._last) * most / _MINUTE
        self._level = min(most, filled) - sum(lease.newly_generated() for lease in self._leases)
        self._last = now
        return self._level

    def seconds_until(self, level: float) -> float:
        """Seconds until the bucket reaches this level if nothing is taken out."""
        return max(0.0, level - self._level) * _MINUTE / self._tenant.tokens_per_minute

    def _take(self, num_tokens: int) -> None:
        limit = self._tenant.tokens_per_minute
        if num_tokens > limit:
            raise RateLimitError(
                f"this prompt of {num_tokens} tokens is longer than what this API key may use in a "
                f"minute ({limit}); shorten it",
                retry_after=None,
            )
        if num_tokens > self.level:
            raise RateLimitError(
                f"this API key may use {limit} tokens per minute and has used them up; try again "
                "later",
                retry_after=self.seconds_until(num_tokens),
            )
        self._level -= num_tokens


class Quotas:
    """The accounts of all tenants that have limits.

    Args:
        clock: seconds; for tests.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._accounts: dict[str, Account] = {}

    def admit(self, tenant: Tenant, num_prompt_tokens: int) -> Lease | None:
        """Let a request begin; None if nothing limits its tenant.

        Raises:
            RateLimitError: it has to wait.
        """
        account = self.account(tenant)
        return account.admit(num_prompt_tokens) if account else None

    def account(self, tenant: Tenant) -> Account | None:
        """A tenant's account, if it has limits."""
        if not (tenant.max_requests or tenant.tokens_per_minute):
            return None
        if tenant.name not in self._accounts:
            self._accounts[tenant.name] = Account(tenant, self._clock)
        return self._accounts[tenant.name]
