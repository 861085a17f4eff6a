"""Response bodies: msgspec types, written by its fast encoder and described by /openapi.json."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec
from starlette.responses import Response

_encode = msgspec.json.Encoder().encode


def json_response(
    body: object, status: int = 200, headers: Mapping[str, str] | None = None
) -> Response:
    """A response with this body."""
    return Response(_encode(body), status, headers, media_type="application/json")
