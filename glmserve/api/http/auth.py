"""Checks API keys in front of every route that is not open."""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections.abc import Collection, Iterator, Mapping

from starlette.datastructures import Headers
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from glmserve.api.answering.caller import Caller
from glmserve.api.http.errors import error_response
from glmserve.config import Tenant
from glmserve.errors import AuthenticationError

HEALTH = "/health"


class ApiKeys:
    """The valid keys, kept as keyed hashes.

    Args:
        hash_key: random bytes that make ids the same in another server's life; None makes new ones.
        owner_key: as `hash_key`, for Caller.owner; None: there are no files to own.
    """

    def __init__(
        self,
        keys: Mapping[str, Tenant],
        hash_key: bytes | None = None,
        owner_key: bytes | None = None,
    ) -> None:
        self._hash_key = hash_key or secrets.token_bytes(32)
        self._owner_key = owner_key
        self._tenants = {self._digest(key.encode()): tenant for key, tenant in keys.items()}

    def identify(self, key: bytes) -> Caller | None:
        """The holder of the key; None if the key is not valid.

        The time it takes depends on neither the key nor its place: all are compared, as hashes.
        """
        digest = self._digest(key)
        matches = [hmac.compare_digest(digest, valid) for valid in self._tenants]
        if not any(matches):
            return None
        return Caller(digest.hex()[:16], self._tenants[digest], self._owner(key))

    def _digest(self, key: bytes) -> bytes:
        return hashlib.blake2b(key, key=self._hash_key, digest_size=32).digest()

    def _owner(self, key: bytes) -> str:
        if self._owner_key is None:
            return ""
        return hashlib.blake2b(key, key=self._owner_key, digest_size=16).hexdigest()


class ApiKeyMiddleware:
    """Denies by default: 401 unless a request carries a valid key or its path is open.

    An open path that ends with a slash opens all paths behind it; "/" opens itself alone.

    A key comes as `Authorization: Bearer KEY` or as `x-api-key: KEY`. Handlers get its holder from
    `caller_of`. The health checks are always open.
    """

    def __init__(
        self,
        app: ASGIApp,
        keys: ApiKeys,
        open_paths: Collection[str] = (),
    ) -> None:
        self._app = app
        self._keys = keys
        self._open_paths = frozenset(open_paths)
        self._open_beginnings = tuple(
            path for path in (*open_paths, HEALTH + "/") if path.endswith("/") and path != "/"
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        presented = list(presented_keys(Headers(scope=scope)))
        caller = next(filter(None, map(self._keys.identify, presented)), None)
        if caller is not None:
            scope.setdefault("state", {})["caller"] = caller
        elif not self._is_open(scope["path"]):
            await _refusal(scope, bool(presented))(scope, receive, send)
            return
        await self._app(scope, receive, send)

    def _is_open(self, path: str) -> bool:
        return path == HEALTH or path in self._open_paths or path.startswith(self._open_beginnings)


def presented_keys(headers: Headers) -> Iterator[bytes]:
    """Every key in a request's headers.

    Their values are decoded as latin-1, whatever the client meant by their bytes.
    """
    scheme, _, key = headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer":
        yield key.strip().encode("latin-1")
    if "x-api-key" in headers:
        yield headers["x-api-key"].encode("latin-1")


def _refusal(scope: Scope, has_key: bool) -> Response:
    """401. The key is not repeated: answers end up in logs."""
    error = AuthenticationError(
        "this API key is not valid here"
        if has_key
        else "this server needs an API key; send it as 'Authorization: Bearer KEY'"
    )
    return error_response(scope, error, headers={"WWW-Authenticate": "Bearer"})
