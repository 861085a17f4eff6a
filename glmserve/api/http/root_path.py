"""A prefix of all paths, for proxies that serve several applications."""

from __future__ import annotations

from starlette.types import ASGIApp, Receive, Scope, Send


class RootPathMiddleware:
    """Removes the prefix from the paths of requests. Requests without it pass unchanged.

    Args:
        root_path: begins with a slash and ends without one.
    """

    def __init__(self, app: ASGIApp, root_path: str) -> None:
        self._app = app
        self._root_path = root_path

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        path: str = scope.get("path", "")
        if path == self._root_path or path.startswith(f"{self._root_path}/"):
            scope["path"] = path.removeprefix(self._root_path) or "/"
        await self._app(scope, receive, send)
