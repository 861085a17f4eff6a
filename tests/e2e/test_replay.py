"""What a real server did, computed again by the command line."""

from __future__ import annotations

import asyncio
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from support.exhaustive import exhaustive
from support.mixed_requests import requests_of_mixed_lengths, streamed_text
from support.server_process import ServerProcess
from support.slow import slow

SMALLER_VOCABULARY = Path(__file__).parents[1] / "goldens" / "glm2_base"


@pytest.fixture(scope="module")
def recording(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Of more requests than fit into the cache, with guesses, a structure, and one cut off."""
    path = tmp_path_factory.mktemp("recording") / "file"
    options = ("--record", str(path), "--kv-cache-tokens", "1024", "--speculative-tokens", "4")
    with ServerProcess(*options) as server:
        asyncio.run(ask(server.url))
        assert server.stop() == 0
    yield path


async def ask(url: str) -> None:
    bodies = requests_of_mixed_lengths(16)
    bodies[3] |= {"guided_regex": "[a-z]{3,9}", "ignore_eos": False}
    bodies[5] |= {"stop": "e"}
    async with httpx.AsyncClient(base_url=url, timeout=60) as client:
        await asyncio.gather(*(streamed_text(client, body) for body in bodies))


def replay(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "glmserve", "replay", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)


@pytest.mark.parametrize("option", [(), slow(("--alone",)), exhaustive(("--cpu-kernels", "torch"))])
def test_every_token_comes_again(recording: Path, option: tuple[str, ...]) -> None:
    result = replay(str(recording), *option)
    assert (result.returncode, result.stderr) == (0, "")
    assert "all tokens are the same" in result.stdout


@pytest.mark.slow
@pytest.mark.parametrize("option", [(), ("--alone",)])
def test_another_number_format_is_found_out(recording: Path, option: tuple[str, ...]) -> None:
    result = replay(str(recording), "--quantization", "int4", *option)
    assert (result.returncode, result.stderr) == (1, "")
    assert re.search(r"(tokens|requests alone) differ[,;]", result.stdout)
    assert ": recorded " in result.stdout


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--block-size", "4"], "--block-size is the recording's"),
        (["--checkpoint", "nowhere"], "nowhere"),
        (["--checkpoint", str(SMALLER_VOCABULARY)], "tokens, and the recorded one had more"),
    ],
)
def test_what_cannot_be_is_one_line(recording: Path, arguments: list[str], said: str) -> None:
    result = replay(str(recording), *arguments)
    assert result.returncode in (1, 2)
    assert said in result.stderr
    assert result.stderr.count("\n") == 1


@pytest.mark.slow
def test_every_token_comes_again_though_the_cache_was_released(tmp_path: Path) -> None:
    path = tmp_path / "file"
    options = ("--record", str(path), "--release-cache-after", "0.5")
    with ServerProcess(*options) as server, httpx.Client(base_url=server.url, timeout=60) as client:
        cached_tokens(client)
        assert cached_tokens(client) > 0
        asyncio.run(ask(server.url))
        released = False
        while not released:
            time.sleep(1)
            released = cached_tokens(client) == 0
        asyncio.run(ask(server.url))
        assert server.stop() == 0
    result = replay(str(path))
    assert (result.returncode, result.stderr) == (0, "")
    assert "all tokens are the same" in result.stdout


def cached_tokens(client: httpx.Client) -> int:
    """How much of a prompt, always the same one, was in the prefix cache."""
    messages = [{"role": "user", "content": "What is a paged KV cache? " * 9}]
    body = {"model": "glm-tiny", "messages": messages, "max_tokens": 5, "temperature": 0}
    answer = client.post("/v1/chat/completions", json=body).json()
    return int(answer["usage"]["prompt_tokens_details"]["cached_tokens"])
