"""A client that leaves."""

from __future__ import annotations

import json
from typing import Any

from starlette.applications import Starlette


async def leave_after(app: Starlette, path: str, body: dict[str, Any]) -> None:
    """POST, and be gone right after it; returns when the server has noticed."""
    data = json.dumps(body).encode()
    incoming = [{"type": "http.request", "body": data, "more_body": False}]

    async def receive() -> dict[str, Any]:
        return incoming.pop() if incoming else {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        """Nobody is there."""

    scope = {
        "type": "http",
        "method": "POST",
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "headers": [],
        "app": app,
    }
    await app(scope, receive, send)
