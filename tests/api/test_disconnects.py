"""Clients that leave, seen from within: no task is left behind."""

from __future__ import annotations

import asyncio

import msgspec

from glmserve.config import ConnectionConfig, ServerConfig
from support.fake_server import serve
from support.fakes import LIMITS, FakeRunner
from support.live_server import HOST, listening
from support.misbehaving_clients import leave_often


async def test_no_task_is_left_behind() -> None:
    runner = FakeRunner(msgspec.structs.replace(LIMITS, num_blocks=4096, max_context=1024))
    config = ServerConfig(served_model_name="glm-tiny")
    limits = ConnectionConfig(header_timeout=1, body_timeout=1, idle_timeout=1)
    async with serve(runner, config=config) as app, listening(app, limits=limits) as port:
        await leave_often((HOST, port), 20, at_once=5, seed=1)
        await asyncio.sleep(2)  # what is left is what stays: the engine, the server, a watcher
        before = len(asyncio.all_tasks())
        await leave_often((HOST, port), 60, at_once=20)
        async with asyncio.timeout(30):
            while len(asyncio.all_tasks()) > before:
                await asyncio.sleep(0.05)
