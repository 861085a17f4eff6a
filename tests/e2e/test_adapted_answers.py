"""LoRA adapters and a prefix of glm-tiny, over HTTP: mixed, evicted, through a killed worker."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from glmserve.config import EMBEDDED_CHECKPOINT
from support.lora import random_adapter, random_prefix
from support.server_process import ServerProcess, worker_of

NAMES = ("lora", "other-lora", "prefix", "glm-tiny")
OPTIONS = ("--max-adapters", "2", "--kv-cache-tokens", "512")


async def answers(url: str, names: tuple[str, ...]) -> list[str]:
    """What each says to the same words, all asked at once."""
    request = {
        "messages": [{"role": "user", "content": "Hello! Who are you?"}],
        "max_tokens": 40,
        "temperature": 0,
        "ignore_eos": True,
    }
    async with httpx.AsyncClient(base_url=url, timeout=60) as client:
        found = await asyncio.gather(
            *(client.post("/v1/chat/completions", json={"model": n, **request}) for n in names)
        )
    return [answer.json()["choices"][0]["message"]["content"] for answer in found]


@pytest.mark.slow
async def test_each_answers_as_it_does_alone(tmp_path: Path) -> None:
    """Three adapters in two places, and a killed worker."""
    config = json.loads((EMBEDDED_CHECKPOINT / "config.json").read_text())
    for rank, name in enumerate(NAMES[:2]):
        random_adapter(tmp_path / "dir" / name, config, seed=rank, rank=rank + 2, scale=0.3)
    random_prefix(tmp_path / "dir" / NAMES[2], config, 20)
    recording = tmp_path / "recording"
    options = ("--adapter-dir", str(tmp_path / "dir"), "--record", str(recording), *OPTIONS)
    with ServerProcess(*options) as server:
        alone = [(await answers(server.url, (name,)))[0] for name in NAMES]
        assert len(set(alone)) == len(NAMES)
        assert await answers(server.url, NAMES * 3) == alone * 3
        assert server.metric("glmserve_adapter_evictions_total") > 0
        asking = asyncio.create_task(answers(server.url, NAMES * 3))
        await asyncio.sleep(0.1)
        os.kill(worker_of(server.pid), signal.SIGKILL)
        assert await asking == alone * 3
        assert server.metric("glmserve_worker_restarts_total") == 1
        assert server.stop() == 0
    command = [sys.executable, "-m", "glmserve", "replay", str(recording)]
    replay = await asyncio.to_thread(
        subprocess.run, command, capture_output=True, text=True, timeout=120, check=False
    )
    assert (replay.returncode, replay.stderr) == (0, "")
    assert "all tokens are the same" in replay.stdout


@pytest.mark.slow
def test_an_adapter_that_does_not_fit_is_found_before_the_weights(tmp_path: Path) -> None:
    config = json.loads((EMBEDDED_CHECKPOINT / "config.json").read_text())
    folder = random_adapter(tmp_path / "a", config | {"num_layers": config["num_layers"] + 1})
    for command in (["serve", "--port", "0"], ["doctor"]):
        arguments = [sys.executable, "-m", "glmserve", *command, "--adapter", f"wide={folder}"]
        result = subprocess.run(arguments, capture_output=True, text=True, timeout=60, check=False)
        assert result.returncode == 1
        assert "--adapter wide: " in (result.stderr if "serve" in command else result.stdout)
        assert "Traceback" not in result.stderr
