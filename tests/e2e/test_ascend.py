"""Servers on the simulated NPU: every answer is the CPU's, whatever happens on the way."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx
import pytest

from glmserve.config import EMBEDDED_CHECKPOINT
from support.ascend_simulator.device import NAME, install
from support.crashing_worker import long_requests, read_all
from support.exhaustive import exhaustive
from support.golden_over_http import check_greedy_ids
from support.mixed_requests import requests_of_mixed_lengths
from support.server_process import ServerProcess
from support.slow import slow

DEVICE = ("--device", NAME)
KILLS = 2


@pytest.fixture(autouse=True)
def plugin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(tmp_path, monkeypatch)


async def texts(server: ServerProcess, bodies: list[dict[str, Any]]) -> list[list[str]]:
    """What the choices of each request say; all are sent at once."""
    async with httpx.AsyncClient(base_url=server.url, timeout=120) as client:

        async def ask(body: dict[str, Any]) -> list[str]:
            response = await client.post("/v1/chat/completions", json=body | {"stream": False})
            assert response.status_code == 200, response.text
            return [choice["message"]["content"] for choice in response.json()["choices"]]

        return await asyncio.gather(*map(ask, bodies))


@pytest.mark.slow
async def test_32_streams_from_a_small_cache_are_each_as_on_a_cpu(
    glm_tiny: ServerProcess,
) -> None:
    """Preemption, chunks beside decodes, drafts, and cached prefixes (the second time)."""
    bodies = [
        body | {"max_tokens": 260 if i < 3 else 20, "ignore_eos": i < 3}  # 9 of 5 blocks at once
        for i, body in enumerate(requests_of_mixed_lengths(32))
    ]
    expected = await texts(glm_tiny, bodies)  # whose results are batch-invariant
    small = ("--kv-cache-tokens", "640", "--max-model-len", "640", "--max-step-tokens", "128")
    drafts = ("--speculative-tokens", "4")
    with ServerProcess(*DEVICE, "--dtype", "float32", *small, *drafts) as server:
        assert "Ascend910B3" in server.text
        assert await texts(server, bodies) == expected
        assert server.metric("glmserve_preemptions_total") > 0
        last = slice(-4, None)
        assert await texts(server, bodies[last]) == expected[last]
        hits = server.metric("glmserve_prefix_cache_hits_total")
        assert await texts(server, bodies[last]) == expected[last]
        assert server.metric("glmserve_prefix_cache_hits_total") > hits


@pytest.mark.exhaustive
async def test_a_worker_that_is_killed() -> None:
    bodies = long_requests(4)
    with ServerProcess(*DEVICE, "--dtype", "float32", "--max-worker-restarts", "9") as server:
        expected, _ = await read_all(server, bodies)
        streams, kills = await read_all(server, bodies, KILLS, seed=3)
        assert kills == KILLS
        for stream, alone in zip(streams, expected, strict=True):
            assert (stream.texts, stream.ends) == (alone.texts, alone.ends)
        assert server.metric("glmserve_worker_restarts_total") == KILLS


@pytest.mark.slow
@pytest.mark.parametrize(
    "options",
    [
        ("--kv-cache-dtype", "int8", "--quantization", "w8a8", "--dtype", "float16"),
        exhaustive(("--attention-backend", "atb", "--quantization", "int4")),
    ],
)
async def test_other_number_formats_serve(options: tuple[str, ...]) -> None:
    """Their numbers are compared in tests/ascend; here they must be the same alone and together,
    up to rounding: so the questions have one token to answer."""
    body = {"model": "glm-tiny", "max_tokens": 60, "temperature": 0}
    bodies = [
        body | {"messages": [{"role": "user", "content": question}]}
        for question in ("What is glmserve?", "Hello!", "What is glmserve?")
    ]
    with ServerProcess(*DEVICE, *options) as server:
        answers = await texts(server, bodies)
        assert answers[0] == answers[2]
        assert all(len(text) > 3 for (text,) in answers)


@pytest.mark.slow
def test_a_checkpoint_in_the_vendors_layout(tmp_path: Path) -> None:
    """Converted with a calibration, and served by the NPU and by the CPU alike."""
    text = tmp_path / "text.txt"
    text.write_text("What is glmserve? An OpenAI-compatible server.\n你好！有什么可以帮你？\n" * 9)
    target = str(tmp_path / "w8a8")
    options = ("--quantization", "w8a8", "--layout", "modelslim", "--calibration", str(text))
    command = [sys.executable, "-m", "glmserve", "convert", str(EMBEDDED_CHECKPOINT), target]
    done = subprocess.run([*command, *options], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert "activations: 8 bits, one scale by calibration" in done.stdout
    body = {"model": "glm-tiny", "max_tokens": 30, "temperature": 0}
    bodies = [body | {"messages": [{"role": "user", "content": "What is glmserve?"}]}]
    served = ("--checkpoint", target, "--served-model-name", "glm-tiny", "--dtype", "float32")
    with ServerProcess(*served) as server:
        expected = asyncio.run(texts(server, bodies))
    with ServerProcess(*DEVICE, *served) as server:
        assert asyncio.run(texts(server, bodies)) == expected
    assert "glmserve" in expected[0][0]


@pytest.mark.parametrize("model", [slow("glm4_base"), exhaustive("glm1_base")])
def test_greedy_ids_of_the_original(golden_models: Path, model: str) -> None:
    options = ("--checkpoint", str(golden_models / model), "--skip-tokenizer-init")
    with ServerProcess(*DEVICE, *options, "--dtype", "float32") as server:
        check_greedy_ids(server, golden_models / model)


@pytest.mark.parametrize(
    "ranks",
    [
        slow(("--tensor-parallel-size", "2")),
        exhaustive(("--pipeline-parallel-size", "2")),
        exhaustive(("--tensor-parallel-size", "2", "--quantization", "w8a8")),
    ],
)
async def test_ranks_exchange_tensors(ranks: tuple[str, ...], golden_models: Path) -> None:
    """By gloo in place of the vendor's HCCL."""
    options = ("--checkpoint", str(golden_models / "glm4_base"), "--skip-tokenizer-init")
    with ServerProcess(*DEVICE, *options, "--dtype", "float32", *ranks) as server:
        assert "rank 1" in server.text
        if "--quantization" not in ranks:
            check_greedy_ids(server, golden_models / "glm4_base")
