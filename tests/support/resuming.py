"""Requests whose answers are gone on with."""

from __future__ import annotations

import asyncio
import json
import threading
from typing import Any

import httpx
from starlette.applications import Starlette

from support.fake_server import client_of
from support.fakes import FakeRunner
from support.streaming import id_of

TEXT = "/v1/completions"
BODY: dict[str, Any] = {"model": "fake", "prompt": "abc", "max_tokens": 30, "temperature": 0}
STREAM = BODY | {"stream": True}


_TURNS = 20
"""Turns of the event loop in which every task that can go on without a thread has gone on."""
_STAGES = 3
"""Tokens are recorded, committed and sent; each stage may wait for the journal's thread."""


def last(event: bytes) -> dict[str, str]:
    return {"Last-Event-ID": id_of(event)}


async def post(app: Starlette, body: dict[str, Any], **headers: str) -> httpx.Response:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    async with client_of(app) as client:
        return await client.post(TEXT, content=json.dumps(body), headers=named)


def metric(app: Starlette, name: str) -> float | None:
    registry = app.state.context.engine.stats.registry
    return registry.get_sample_value(f"glmserve_{name}")  # type: ignore[no-any-return]


class GatedRunner(FakeRunner):
    """Stops before a step until it is let on."""

    def __init__(self, stop_at: int) -> None:
        super().__init__()
        self.gate = threading.Event()
        self.gate.set()
        self._stop_at = stop_at
        self.stopped = threading.Event()

    def execute(self, step: Any, masks: Any = list) -> Any:
        if step.step_id == self._stop_at:
            self.stopped.set()
            self.gate.clear()
        return super().execute(step, masks)

    async def wait(self, app: Starlette) -> None:
        """Wait until it stops, and until what it computed before is delivered and recorded."""
        await asyncio.to_thread(self.stopped.wait)
        for _ in range(_STAGES):
            for _ in range(_TURNS):
                await asyncio.sleep(0)
            await app.state.context.answers.journal._commits.flush()
