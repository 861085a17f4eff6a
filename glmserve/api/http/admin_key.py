"""The operator's key, which the routes of operators need."""

from __future__ import annotations

from starlette.requests import Request

from glmserve.api.http.auth import ApiKeys, presented_keys
from glmserve.api.http.state import context_of
from glmserve.config import DEFAULT_TENANT
from glmserve.errors import AdminDisabledError, AuthenticationError


def check_admin_key(request: Request) -> None:
    """Check that the request has the admin key, sent as an API key is sent.

    Raises:
        AdminDisabledError: this server has none.
        AuthenticationError: the request has not.
    """
    key = context_of(request).config.admin_key
    if key is None:
        raise AdminDisabledError(
            "this server was started without an admin key (--admin-key or GLMSERVE_ADMIN_KEY), so "
            "nobody can do this"
        )
    if not any(map(ApiKeys({key: DEFAULT_TENANT}).identify, presented_keys(request.headers))):
        raise AuthenticationError(
            "this needs the server's admin key; send it as 'Authorization: Bearer KEY'"
        )
