"""An application over a fake runner, called without a network."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
from starlette.applications import Starlette
from starlette.middleware import Middleware

from glmserve.api.answering.context import ServerContext
from glmserve.api.app import create_app
from glmserve.api.http.access import AccessObserver
from glmserve.batches.storage import BatchStorage
from glmserve.config import (
    EMBEDDED_CHECKPOINT,
    BatchConfig,
    RedisAddress,
    SchedulerConfig,
    ServerConfig,
    Tenant,
    report_nothing,
)
from glmserve.engine import Engine
from glmserve.executor import Executor, InlineExecutor
from glmserve.journal import Journal, SqliteStore, Store
from glmserve.journal.shared.store import RedisStore
from glmserve.model_config import read_model_config
from support.fakes import ByteTokenizer, FakeRunner, PlainChat


@asynccontextmanager
async def serve(
    runner: FakeRunner | None = None,
    scheduler: SchedulerConfig | None = None,
    config: ServerConfig | None = None,
    with_tokenizer: bool = True,
    start: bool = True,
    executor: Executor | None = None,
    journal: Path | RedisAddress | None = None,
    keep: float = 600.0,
    batches: BatchConfig | None = None,
    observers: Sequence[AccessObserver] = (),
    outermost: Sequence[Middleware] = (),
    chat: type[PlainChat] = PlainChat,
) -> AsyncIterator[Starlette]:
    """A started server; its context is `app.state.context`.

    The first structure starts the process that tries structures. A real server does so before it is
    ready; here most tests have no structures, and a process for each was most of their time.

    Args:
        journal: place of its journal, if it is to have one.
        keep: see Journal.
        batches: where it keeps files and batches, if it does; they run.
        observers, outermost: see create_app.
        chat: its chat format.
    """
    tokenizer = ByteTokenizer()
    engine = Engine(
        executor or InlineExecutor(lambda _: runner or FakeRunner()),
        scheduler or SchedulerConfig(),
        hash_key=b"key",
    )
    context = ServerContext(
        config or ServerConfig(served_model_name="fake"),
        read_model_config(EMBEDDED_CHECKPOINT),
        engine,
        tokenizer if with_tokenizer else None,
        chat(tokenizer) if with_tokenizer else None,
    )
    if context.structures is not None:
        context.structures.prepare = _nothing  # type: ignore[method-assign]
    if journal is not None:
        context.record_to(Journal(_store(journal), keep))
    if batches is not None:
        context.batches = BatchStorage(batches)
    if start:
        await context.start(report_nothing)
    app = create_app(context, observers, outermost)
    running = [asyncio.create_task(app.state.batches.run())] if batches is not None else []
    try:
        yield app
    finally:
        for task in running:
            task.cancel()
            await asyncio.wait([task])
        await context.close()


def _store(place: Path | RedisAddress) -> Store:
    kind = RedisStore if isinstance(place, RedisAddress) else SqliteStore
    return kind(place, "fake", 2**30)  # type: ignore[arg-type]


async def _nothing() -> None:
    """Prepares no structures."""


def tenants(*keys: str) -> dict[str, Tenant]:
    """A tenant for each API key."""
    return {key: Tenant(f"holder of {key}") for key in keys}


def client_of(app: Starlette) -> httpx.AsyncClient:
    """A client that calls the application in this process."""
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    return httpx.AsyncClient(transport=transport, base_url="http://test")
