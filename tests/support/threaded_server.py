"""An application over a fake runner behind a real socket, in a thread of this process."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import uvloop

from support.fake_server import serve
from support.live_server import HOST, listening


@contextmanager
def threaded_server(**options: Any) -> Iterator[str]:
    """Its address, ending with a slash, while it is served.

    Args:
        options: those of `serve`.
    """
    ready = threading.Event()
    state: dict[str, Any] = {}

    async def run() -> None:
        state["loop"], state["stop"] = asyncio.get_running_loop(), asyncio.Event()
        async with serve(**options) as app, listening(app) as port:
            state["url"] = f"http://{HOST}:{port}/"
            ready.set()
            await state["stop"].wait()

    thread = threading.Thread(target=uvloop.run, args=(run(),), daemon=True)
    thread.start()
    try:
        assert ready.wait(30), "the server did not start"
        yield state["url"]
    finally:
        state["loop"].call_soon_threadsafe(state["stop"].set)
        thread.join(30)
