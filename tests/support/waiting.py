"""Tests wait for events, never for times: on a busy machine they take longer, and do not fail."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from starlette.applications import Starlette

from glmserve.engine import Engine


async def until(condition: Callable[[], object]) -> None:
    """Wait until the condition holds. The only limit is pytest's."""
    while not condition():
        await asyncio.sleep(0.001)


async def until_queued(app: Starlette, count: int) -> None:
    """Wait until the engine has this many sequences, running or waiting."""
    scheduler = app.state.context.engine._scheduler
    await until(lambda: scheduler.stats.running + scheduler.stats.waiting >= count)


async def until_running(app: Starlette, count: int) -> None:
    """Wait until this many sequences have blocks."""
    scheduler = app.state.context.engine._scheduler
    await until(lambda: scheduler.stats.running >= count)


def let_queue_time_out(engine: Engine) -> None:
    """Let --queue-timeout pass for every sequence that is in the queue now."""
    timer = engine._streams._timer
    timer._deadlines = dict.fromkeys(timer._deadlines, 0.0)
    timer._expire_due()
