"""The worker dies, and no client notices."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from pathlib import Path

import httpx
import pytest

from support.crashing_worker import long_requests, read_all
from support.device_plugin import install_device
from support.server_process import ServerProcess, children, is_worker, worker_of
from support.slow import slow

KILLS = 5


@pytest.mark.slow
async def test_16_streams_and_a_worker_that_is_killed_five_times() -> None:
    bodies = long_requests(16)
    with ServerProcess("--dtype", "float32", "--max-worker-restarts", "100") as server:
        expected, _ = await read_all(server, bodies)
        streams, kills = await read_all(server, bodies, KILLS, seed=7)
        assert kills == KILLS
        for stream, alone in zip(streams, expected, strict=True):
            assert (stream.texts, stream.ends) == (alone.texts, alone.ends)
        assert server.metric("glmserve_worker_restarts_total") == KILLS
        server.wait_until_idle()
        assert server.text.count("killed by SIGKILL") == KILLS
        assert "Traceback" not in server.text


@pytest.mark.slow
async def test_what_arrives_while_there_is_no_worker_waits_for_the_next() -> None:
    score = {"prompt": "What is glmserve?", "max_tokens": 0, "echo": True, "logprobs": 1}
    requests = {
        "/v1/completions": {"model": "glm-tiny", **score},
        "/v1/embeddings": {"model": "glm-tiny", "input": "What is glmserve?"},
        "/v1/messages": {
            "model": "glm-tiny",
            "max_tokens": 20,
            "temperature": 0,
            "messages": [{"role": "user", "content": "Hello!"}],
        },
    }
    parts = ("choices", "data", "content")
    with ServerProcess("--dtype", "float32") as server:
        async with httpx.AsyncClient(base_url=server.url, timeout=60) as client:

            async def answers() -> list[object]:
                responses = await asyncio.gather(
                    *(client.post(path, json=body) for path, body in requests.items())
                )
                bodies = [response.raise_for_status().json() for response in responses]
                return [body[part] for body, part in zip(bodies, parts, strict=True)]

            expected = await answers()
            os.kill(worker_of(server.pid), signal.SIGKILL)
            while (ready := await client.get("/health/ready")).status_code == 200:
                await asyncio.sleep(0.001)
            assert ready.status_code == 503
            assert ready.json()["status"] == "restarting"
            assert (await client.get("/health/live")).status_code == 200
            assert await answers() == expected
            assert (await client.get("/health/ready")).status_code == 200


def test_a_worker_that_hangs_is_replaced() -> None:
    body = {"model": "glm-tiny", "prompt": "x", "max_tokens": 50, "temperature": 0}
    with ServerProcess("--device", "null", "--step-timeout", "0.5") as server:
        url = f"{server.url}/v1/completions"
        expected = httpx.post(url, json=body).json()["choices"]
        os.kill(worker_of(server.pid), signal.SIGSTOP)
        assert httpx.post(url, json=body, timeout=30).json()["choices"] == expected
        assert "did not end within --step-timeout 0.5" in server.text


FRAGILE = '''
"""The null device, but token 77 kills the process."""

import os

from glmserve.devices.null import NullDevice


class FragileDevice(NullDevice):
    name = "fragile"

    def create_runner(self, config, progress):
        return FragileRunner(super().create_runner(config, progress))


class FragileRunner:
    def __init__(self, runner):
        self.info = runner.info
        self.close = runner.close
        self._runner = runner

    def execute(self, step, masks):
        if any(77 in s.token_ids and s.start == 0 for s in step.sequences):
            os.abort()
        return self._runner.execute(step, masks)
'''


@pytest.mark.slow
async def test_a_request_that_kills_workers_does_not_kill_the_server(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However often it comes: its crashes do not count for --max-worker-restarts."""
    install_device("fragile", "FragileDevice", FRAGILE, tmp_path, monkeypatch)
    body = {"model": "glm-tiny", "max_tokens": 1500, "temperature": 0, "return_token_ids": True}
    with ServerProcess("--device", "fragile", "--skip-tokenizer-init") as server:
        async with httpx.AsyncClient(base_url=server.url, timeout=60) as client:

            async def ask(prompt: list[int]) -> httpx.Response:
                return await client.post("/v1/completions", json=body | {"prompt": prompt})

            expected = (await ask([1, 2])).json()["choices"]
            for _ in range(2):
                good = [asyncio.create_task(ask([1, 2])) for _ in range(4)]
                bad = await ask([1, 77])
                assert (bad.status_code, bad.json()["error"]["code"]) == (500, "worker_crashed")
                for answer in good:
                    assert (await answer).json()["choices"] == expected
        assert server.metric("glmserve_worker_restarts_total") == 6
        assert "killed by SIGABRT" in server.text
        assert "this request is given up" in server.text


@pytest.mark.parametrize("phase", [slow("spawning"), "loading", slow("restarting")])
def test_all_children_die_with_a_killed_server_in_every_phase(phase: str) -> None:
    with ServerProcess("--device", "cpu", wait=phase == "restarting") as server:
        if phase == "restarting":
            os.kill(worker_of(server.pid), signal.SIGKILL)
        first = children(server.pid)
        deadline = time.monotonic() + 60
        while not (helpers := [pid for pid in children(server.pid) if is_worker(pid)]):
            assert time.monotonic() < deadline, f"there is no worker beside {first}"
        time.sleep(0.5 if phase == "loading" else 0.0)
        os.kill(server.pid, signal.SIGKILL)
        server.wait()
        while any(Path(f"/proc/{pid}").exists() for pid in helpers):
            assert time.monotonic() < deadline, "a child outlived its server"
            time.sleep(0.01)
