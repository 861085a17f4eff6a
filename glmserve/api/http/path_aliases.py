"""Other paths of the same routes."""

from __future__ import annotations

from starlette.types import ASGIApp, Receive, Scope, Send

_PREFIXES = {"/api/paas/v4/": "/v1/"}
"""The prefixes that clients of other services use for OpenAI's routes: ZhipuAI's SDKs."""


class PathAliasMiddleware:
    """Gives a request the path of its route: without a slash at the end, and with our prefix."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            scope["path"] = _path_of_route(scope["path"])
        await self._app(scope, receive, send)


def _path_of_route(path: str) -> str:
    if len(path) > 1 and path.endswith("/"):
        path = path[:-1]
    for prefix, ours in _PREFIXES.items():
        if path.startswith(prefix):
            return ours + path.removeprefix(prefix)
    return path
