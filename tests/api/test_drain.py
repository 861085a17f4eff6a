"""/admin/drain: who may, and what it does."""

from __future__ import annotations

import asyncio
import threading

import pytest

from glmserve.config import SchedulerConfig, ServerConfig
from support.fake_server import client_of, serve, tenants
from support.fakes import FakeRunner
from support.waiting import until_queued, until_running

KEY = {"Authorization": "Bearer operator"}
CONFIG = ServerConfig(served_model_name="fake", admin_key="operator")
BODY = {"model": "fake", "prompt": "abc", "max_tokens": 5, "temperature": 0}


async def test_what_has_begun_goes_on_and_nothing_else() -> None:
    gate = threading.Event()
    gate.set()
    runner = FakeRunner(gate=gate)
    scheduler = SchedulerConfig(max_batch_size=1)
    async with serve(runner, scheduler, CONFIG) as app, client_of(app) as client:
        gate.clear()
        both = BODY | {"n": 2, "prompt": ["abc", "de"]}
        running = asyncio.create_task(client.post("/v1/completions", json=both))
        await until_queued(app, 4)
        await until_running(app, 1)
        waiting = asyncio.create_task(client.post("/v1/completions", json=BODY | {"n": 2}))
        await until_queued(app, 6)
        drained = await client.post("/admin/drain", headers=KEY)
        assert drained.json() == {"status": "draining"}
        for refused in (await waiting, await client.post("/v1/completions", json=BODY)):
            assert (refused.status_code, refused.headers["retry-after"]) == (503, "1")
            assert refused.json()["error"]["code"] == "not_ready"
            assert "drained" in refused.json()["error"]["message"]
        ready = await client.get("/health/ready")
        assert (ready.status_code, ready.json()) == (503, {"status": "draining"})
        assert (await client.get("/health/live")).status_code == 200
        gate.set()
        assert len((await running).json()["choices"]) == 4
        assert (await client.delete("/admin/drain", headers=KEY)).json() == {"status": "serving"}
        assert (await client.get("/health/ready")).status_code == 200
        assert (await client.post("/v1/completions", json=BODY)).status_code == 200
        assert (
            'glmserve_kv_blocks_used{model_name="fake"} 0.0' in (await client.get("/metrics")).text
        )


@pytest.mark.parametrize("method", ["POST", "DELETE"])
@pytest.mark.parametrize(
    ("config", "headers", "status", "code"),
    [
        (ServerConfig("fake"), {}, 403, "admin_disabled"),
        (ServerConfig("fake"), KEY, 403, "admin_disabled"),
        (CONFIG, {}, 401, "invalid_api_key"),
        (CONFIG, {"Authorization": "Bearer other"}, 401, "invalid_api_key"),
        (
            ServerConfig("fake", admin_key="operator", api_keys=tenants("client")),
            {"x-api-key": "client"},
            401,
            "invalid_api_key",
        ),
    ],
)
async def test_only_the_operator_may(
    method: str, config: ServerConfig, headers: dict[str, str], status: int, code: str
) -> None:
    async with serve(config=config) as app, client_of(app) as client:
        response = await client.request(method, "/admin/drain", headers=headers)
        assert (response.status_code, response.json()["error"]["code"]) == (status, code)
        if not config.api_keys:
            assert (await client.post("/v1/completions", json=BODY)).status_code == 200


async def test_the_operator_s_key_opens_nothing_else() -> None:
    config = ServerConfig("fake", admin_key="operator", api_keys=tenants("client"))
    async with serve(config=config) as app, client_of(app) as client:
        assert (await client.post("/admin/drain", headers=KEY)).status_code == 200
        assert (await client.get("/v1/models", headers=KEY)).status_code == 401
