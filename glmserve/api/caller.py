"""Who is asking."""

from __future__ import annotations

from typing import NamedTuple

from starlette.requests import Request

from glmserve.config import DEFAULT_TENANT, Tenant


class Caller(NamedTuple):
    """Whose request it is, by its API key."""

    key_id: str | None
    """Opaque, and the same for as long as the server runs; None without a valid key."""
    tenant: Tenant


ANONYMOUS = Caller(None, DEFAULT_TENANT)
"""Where no keys are asked for."""


def caller_of(request: Request) -> Caller:
    """The caller, as `ApiKeyMiddleware` has found them out; anybody where no keys are asked for."""
    caller: Caller = getattr(request.state, "caller", ANONYMOUS)
    return caller
