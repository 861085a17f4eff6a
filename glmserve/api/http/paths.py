"""Other paths of the same routes: behind a proxy's prefix, as other services write them."""

from __future__ import annotations

from starlette.types import ASGIApp, Receive, Scope, Send

_ALIASES = {
    "/api/paas/v4/": "/v1/",
    "/api/coding/paas/v4/": "/v1/",
    "/api/anthropic/v1/": "/v1/",
}
"""The prefixes that other services have for these routes: ZhipuAI's API, its plan for agents, and
its form of Anthropic's API."""


class PathMiddleware:
    """Gives a request the path of its route: without the root path, without a slash at its end, and
    with the prefix of this server's routes.

    Args:
        root_path: a prefix that a proxy adds, or an empty string. Requests without it pass, too.
    """

    def __init__(self, app: ASGIApp, root_path: str) -> None:
        self._app = app
        self._root_path = root_path

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] in ("http", "websocket"):
            path = scope["path"]
            if path == self._root_path or path.startswith(f"{self._root_path}/"):
                path = path.removeprefix(self._root_path) or "/"
            scope["path"] = _path_of_route(path)
        await self._app(scope, receive, send)


def _path_of_route(path: str) -> str:
    if len(path) > 1 and path.endswith("/"):
        path = path[:-1]
    for alias, prefix in _ALIASES.items():
        if path.startswith(alias):
            return prefix + path.removeprefix(alias)
    return path
