"""What clients and operators see of workers that die."""

from __future__ import annotations

import asyncio
import json

from glmserve.config import ServerConfig
from glmserve.contract.step import MaskSource, StepInput, StepOutput, no_masks
from support.fake_server import client_of, serve
from support.fakes import FakeRunner
from support.worker_on_thread import WorkerOnThread

POISON = ord("!")
GOOD = {"model": "fake", "prompt": "abc", "max_tokens": 40, "temperature": 0}
BAD = GOOD | {"prompt": "a!c"}


class PoisonedRunner(FakeRunner):
    """Dies of an exclamation mark in a prompt."""

    def execute(self, step: StepInput, masks: MaskSource = no_masks) -> StepOutput:
        if any(s.start == 0 and POISON in s.token_ids[:3] for s in step.sequences):
            raise RuntimeError("poison")
        return super().execute(step, masks)


async def test_a_request_that_kills_workers_gets_an_error_and_all_others_their_answer() -> None:
    executor = WorkerOnThread(*(PoisonedRunner() for _ in range(4)))
    async with serve(executor=executor) as app, client_of(app) as client:
        posts = [client.post("/v1/completions", json=body) for body in (GOOD, BAD, GOOD)]
        good, bad, other = await asyncio.gather(*posts)
        assert bad.status_code == 500
        error = bad.json()["error"]
        assert (error["type"], error["code"]) == ("server_error", "worker_crashed")
        assert "3 times" in error["message"]
        assert bad.headers["x-should-retry"] == "false"
        assert good.json()["choices"] == other.json()["choices"]
        assert (await client.get("/health/ready")).status_code == 200


async def test_a_stream_that_kills_workers_before_its_first_token_gets_a_status() -> None:
    executor = WorkerOnThread(*(PoisonedRunner() for _ in range(4)))
    async with serve(executor=executor) as app, client_of(app) as client:
        response = await client.post("/v1/completions", json=BAD | {"stream": True})
        assert (response.status_code, response.json()["error"]["code"]) == (500, "worker_crashed")


class SpokenPoisonRunner(FakeRunner):
    """Dies of the fourth token of an answer."""

    def execute(self, step: StepInput, masks: MaskSource = no_masks) -> StepOutput:
        if any(s.start + len(s.token_ids) == 6 for s in step.sequences):
            raise RuntimeError("poison")
        return super().execute(step, masks)


async def test_a_stream_that_kills_workers_later_ends_with_an_error_event() -> None:
    executor = WorkerOnThread(*(SpokenPoisonRunner() for _ in range(4)))
    async with serve(executor=executor) as app, client_of(app) as client:
        response = await client.post("/v1/completions", json=GOOD | {"stream": True})
        assert response.status_code == 200
        *tokens, last, _ = response.text.split("\n\n")
        texts = [json.loads(t.removeprefix("data: "))["choices"][0]["text"] for t in tokens]
        assert len("".join(texts)) == 3
        assert '"code":"worker_crashed"' in last


async def test_health_while_there_is_no_worker() -> None:
    dying = FakeRunner()
    dying.fail_at_step = 3
    executor = WorkerOnThread(dying, FakeRunner())
    executor.may_restart.clear()
    config = ServerConfig(served_model_name="fake")
    async with serve(executor=executor, config=config) as app, client_of(app) as client:
        answer = asyncio.create_task(client.post("/v1/completions", json=GOOD))
        while (ready := await client.get("/health/ready")).status_code == 200 or (
            ready.json()["reason"] == "the worker "  # it is not known yet how it has ended
        ):
            await asyncio.sleep(0.001)
        assert (await client.get("/health/started")).status_code == 200
        assert (ready.status_code, ready.headers["retry-after"]) == (503, "1")
        assert ready.json() == {
            "status": "restarting",
            "reason": "the worker has failed: the fake device is on fire",
            "phase": "weights",
            "progress": 0.0,
        }
        assert (await client.get("/health/live")).status_code == 200
        assert (await client.get("/v1/models")).status_code == 200
        executor.may_restart.set()
        assert (await answer).status_code == 200
        assert (await client.get("/health/ready")).json() == {"status": "ready"}
        assert (
            'glmserve_worker_restarts_total{model_name="fake"} 1.0'
            in (await client.get("/metrics")).text
        )
