"""POST and DELETE /admin/drain: for operators, with a key of their own."""

from __future__ import annotations

from typing import Literal

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from glmserve.api.http.auth import ApiKeys, presented_keys
from glmserve.api.http.responses import json_response
from glmserve.api.http.state import context_of
from glmserve.config import DEFAULT_TENANT
from glmserve.errors import AdminDisabledError, AuthenticationError


class DrainStatus(msgspec.Struct):
    """Whether the server refuses new requests."""

    status: Literal["draining", "serving"]


async def start_draining(request: Request) -> Response:
    """Refuse new and waiting requests with 503; running requests go on."""
    _check_key(request)
    context_of(request).engine.drain("this server is being drained; try another, or later")
    return json_response(DrainStatus("draining"))


async def stop_draining(request: Request) -> Response:
    """Accept requests again."""
    _check_key(request)
    context_of(request).engine.stop_draining()
    return json_response(DrainStatus("serving"))


def _check_key(request: Request) -> None:
    """Raise unless the request has the admin key, sent as an API key is sent."""
    key = context_of(request).config.admin_key
    if key is None:
        raise AdminDisabledError(
            "this server was started without an admin key (--admin-key or GLMSERVE_ADMIN_KEY), so "
            "nobody can drain it"
        )
    if not any(map(ApiKeys({key: DEFAULT_TENANT}).identify, presented_keys(request.headers))):
        raise AuthenticationError(
            "this needs the server's admin key; send it as 'Authorization: Bearer KEY'"
        )
