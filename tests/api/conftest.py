"""Clients of an application over a fake runner."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack

import httpx
import pytest

from support.fake_server import client_of, serve


@pytest.fixture
async def make_client() -> AsyncIterator[Callable[..., object]]:
    """Call it with the arguments of `serve` for a client of such a server."""
    async with AsyncExitStack() as stack:

        async def make(**options: object) -> httpx.AsyncClient:
            app = await stack.enter_async_context(serve(**options))  # type: ignore[arg-type]
            return await stack.enter_async_context(client_of(app))

        yield make


@pytest.fixture
async def client(make_client: Callable[..., object]) -> httpx.AsyncClient:
    return await make_client()  # type: ignore[misc, no-any-return]
