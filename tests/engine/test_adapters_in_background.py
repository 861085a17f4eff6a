"""Requests in the background and the places of adapters, which other requests need as well."""

from __future__ import annotations

import asyncio
from pathlib import Path

from glmserve.engine import AdapterVersion, Engine, SchedulingAttributes, TokenStream
from glmserve.request import SamplingParams
from support.adapters import (
    AdapterRunner,
    catalog_of,
    expected_with,
    version_of,
    with_adapters,
    write_adapter,
)
from support.token_streams import next_tokens
from support.waiting import until
from support.worker_on_thread import WorkerOnThread, drain, serving

LONG = 60


async def versions(engine: Engine, folder: Path, names: str) -> list[AdapterVersion]:
    for name in names:
        write_adapter(folder / name, name)
    catalog = catalog_of(engine, folder)
    return [await version_of(catalog, name) for name in names]


def submit(
    engine: Engine, version: AdapterVersion, *, max_tokens: int = 5, in_background: bool = False
) -> TokenStream:
    attributes = SchedulingAttributes(adapter=version, in_background=in_background)
    return engine.submit([7], SamplingParams(max_tokens=max_tokens), attributes)


async def test_a_place_that_the_background_holds_is_given_up_in_the_end(tmp_path: Path) -> None:
    async with serving(WorkerOnThread(AdapterRunner(with_adapters(1)))) as engine:
        a, b = await versions(engine, tmp_path, "ab")
        batch = submit(engine, a, max_tokens=LONG, in_background=True)
        begun = (await next_tokens(batch)).token_ids
        waiting = submit(engine, b)
        await until(lambda: waiting.request.status.is_finished)
        assert await drain(waiting) == expected_with(b.digest, [7], 5)
        assert begun + await drain(batch) == expected_with(a.digest, [7], LONG)


async def test_the_background_stands_last_in_the_line(tmp_path: Path) -> None:
    runner = AdapterRunner(with_adapters(1))
    async with serving(WorkerOnThread(runner)) as engine:
        a, b, c = await versions(engine, tmp_path, "abc")
        busy = submit(engine, a, max_tokens=100)
        batch, waiting = submit(engine, b, in_background=True), submit(engine, c)
        busy.close()
        await asyncio.gather(drain(batch), drain(waiting))
        assert runner.loads == [a.id, c.id, b.id]
