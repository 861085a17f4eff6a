"""Adapters of a real server: killed workers and servers, recordings, and starts that fail."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx
import pytest

from support.adapters import write_adapter
from support.exhaustive import exhaustive
from support.server_process import ServerProcess, worker_of

NAMES = ("one", "two", "glm-tiny")


def body(model: str, number: int) -> dict[str, Any]:
    return {
        "model": model,
        "prompt": [7, 8, number],
        "max_tokens": 400,
        "ignore_eos": True,
        "return_token_ids": True,
    }


async def ask(url: str, **headers: str) -> dict[tuple[str, int], list[int]]:
    """The tokens of each name for some prompts, asked for at once."""
    asked = [(name, number) for name in NAMES for number in range(4)]

    async with httpx.AsyncClient(base_url=url, timeout=60) as client:
        answers = await asyncio.gather(
            *(
                client.post(
                    "/v1/completions",
                    json=body(*key),
                    headers={
                        h: f"{v} {key[0]} {key[1]}".replace(" ", "-") for h, v in headers.items()
                    },
                )
                for key in asked
            )
        )
    return {
        key: answer.json()["choices"][0]["token_ids"]
        for key, answer in zip(asked, answers, strict=True)
    }


def glmserve(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "glmserve", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


@pytest.mark.slow
async def test_a_killed_worker_and_a_replay(tmp_path: Path) -> None:
    folder = write_adapter(tmp_path / "dir" / "two", "2")
    one = write_adapter(tmp_path / "elsewhere", "1")
    recording = tmp_path / "recording"
    options = ("--device", "null", "--adapter", f"one={one}", "--adapter-dir", str(folder.parent))
    with ServerProcess(*options, "--record", str(recording)) as server:
        before = await ask(server.url)
        assert len({str(tokens) for (_, n), tokens in before.items() if n == 0}) == 3
        asking = asyncio.create_task(ask(server.url))
        await asyncio.sleep(0.05)
        os.kill(worker_of(server.pid), signal.SIGKILL)
        assert await asking == before
        assert await ask(server.url) == before
        assert server.metric("glmserve_worker_restarts_total") == 1
        assert server.stop() == 0
    result = glmserve("replay", str(recording))
    assert (result.returncode, result.stderr) == (0, "")
    assert "all tokens are the same" in result.stdout
    write_adapter(folder, "22")
    result = glmserve("replay", str(recording))
    assert result.returncode == 1
    assert "an adapter of the recording: " in result.stderr
    assert "has changed" in result.stderr


@pytest.mark.slow
async def test_a_killed_server_and_the_next_one(tmp_path: Path) -> None:
    """Whole answers are finished with the adapters that they began with."""
    for name in ("one", "two"):
        write_adapter(tmp_path / "dir" / name, name)
    directory = str(tmp_path / "dir")
    options = (
        "--device",
        "null",
        "--adapter-dir",
        directory,
        "--journal",
        str(tmp_path / "journal"),
    )
    with ServerProcess(*options) as server:
        expected = await ask(server.url)
        asking = asyncio.create_task(ask(server.url, **{"Idempotency-Key": "k"}))
        await asyncio.sleep(0.05)
        os.kill(server.pid, signal.SIGKILL)
        await asyncio.gather(asking, return_exceptions=True)
    with ServerProcess(*options) as server:
        assert await ask(server.url, **{"Idempotency-Key": "k"}) == expected


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        exhaustive(("--adapter", "sql"), 2, "NAME=PATH"),
        (("--adapter", "sql=/nowhere"), 1, "--adapter sql: /nowhere: no such folder"),
        exhaustive(("--adapter", "a=/x", "--adapter", "a=/y"), 2, "two adapters have the name a"),
        (("--adapter", "glm-tiny={one}"), 2, "name of the model"),
        exhaustive(("--adapter", "x={wide}"), 1, "--max-lora-rank 64"),
        exhaustive(("--adapter-dir", "/nowhere"), 2, "--adapter-dir /nowhere: no such folder"),
        exhaustive(("--adapter", "x={one}", "--ptuning-checkpoint", "p"), 2, "--adapter NAME=PATH"),
    ],
)
def test_a_start_that_fails_says_why(
    tmp_path: Path, arguments: tuple[str, ...], code: int, said: str
) -> None:
    one, wide = write_adapter(tmp_path / "one", "1"), write_adapter(tmp_path / "wide", "1", r=65)
    filled = [argument.format(one=one, wide=wide) for argument in arguments]
    result = glmserve("serve", "--device", "null", "--port", "0", *filled)
    assert result.returncode == code, result.stderr
    assert said in result.stderr
    assert "Traceback" not in result.stderr


@pytest.mark.slow
def test_generate_takes_an_adapter(tmp_path: Path) -> None:
    one = write_adapter(tmp_path / "one", "1")
    texts = set()
    for option in ((), ("--adapter", str(one))):
        result = glmserve(
            "generate", "--device", "null", "--prompt", "hi", "--max-tokens", "20", *option
        )
        assert result.returncode == 0, result.stderr
        texts.add(result.stdout)
    assert len(texts) == 2


@pytest.mark.slow
def test_doctor_reads_adapters(tmp_path: Path) -> None:
    one, two = (write_adapter(tmp_path / name, name) for name in ("one", "two"))
    refused = glmserve("generate", "--device", "null", "--prompt", "hi", "--adapter", "/nowhere")
    assert (refused.returncode, "no such folder" in refused.stderr) == (1, True)
    write_adapter(two, "2", peft_type="IA3")
    report = glmserve(
        "doctor", "--device", "null", "--adapter", f"a={one}", "--adapter", f"b={two}"
    )
    assert report.returncode == 1
    assert "adapter a" in report.stdout
    assert "LoRA of rank 2" in report.stdout
    assert "--adapter b: " in report.stdout
