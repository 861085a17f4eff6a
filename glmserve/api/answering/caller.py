"""The caller of a request, identified by its API key."""

from __future__ import annotations

from typing import NamedTuple

from glmserve.config import DEFAULT_TENANT, Tenant


class Caller(NamedTuple):
    """The holder of an API key."""

    key_id: str | None
    """Identifies the key without revealing it, for as long as the server runs; None without a
    valid key."""
    tenant: Tenant
    owner: str = ""
    """Identifies the key in the lists of files and batches, as long as their folder exists; empty
    where there are no keys or no such folder."""


ANONYMOUS = Caller(None, DEFAULT_TENANT)
"""The caller of requests when no API keys are configured."""
