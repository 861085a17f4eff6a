"""API key check in front of every route but the health checks."""

from __future__ import annotations

import hmac

from starlette.datastructures import Headers
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from glmserve.api.errors import body_of
from glmserve.errors import AuthenticationError

_OPEN_PREFIX = "/health"


class ApiKeyMiddleware:
    """Answers 401 unless a request carries `Authorization: Bearer KEY`. Denies by default."""

    def __init__(self, app: ASGIApp, api_key: str) -> None:
        self._app = app
        self._key = api_key.encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or self._is_open(scope["path"]) or self._has_key(scope):
            await self._app(scope, receive, send)
            return
        error = AuthenticationError(
            "this server needs an API key; send it as 'Authorization: Bearer KEY'"
        )
        response = JSONResponse(
            body_of(error), error.http_status, headers={"WWW-Authenticate": "Bearer"}
        )
        await response(scope, receive, send)

    @staticmethod
    def _is_open(path: str) -> bool:
        return path == _OPEN_PREFIX or path.startswith(_OPEN_PREFIX + "/")

    def _has_key(self, scope: Scope) -> bool:
        scheme, _, key = Headers(scope=scope).get("authorization", "").partition(" ")
        # Headers are decoded as latin-1, whatever the client meant by their bytes.
        return scheme.lower() == "bearer" and hmac.compare_digest(key.encode("latin-1"), self._key)
