"""POST and DELETE /admin/drain: for operators, with a key of their own."""

from __future__ import annotations

from typing import Literal

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from glmserve.api.http.admin_key import check_admin_key
from glmserve.api.http.responses import json_response
from glmserve.api.http.state import context_of


class DrainStatus(msgspec.Struct):
    """Whether the server refuses new requests."""

    status: Literal["draining", "serving"]


async def start_draining(request: Request) -> Response:
    """Refuse new and waiting requests with 503; running requests go on."""
    check_admin_key(request)
    context_of(request).engine.drain("this server is being drained; try another, or later")
    return json_response(DrainStatus("draining"))


async def stop_draining(request: Request) -> Response:
    """Accept requests again."""
    check_admin_key(request)
    context_of(request).engine.stop_draining()
    return json_response(DrainStatus("serving"))
