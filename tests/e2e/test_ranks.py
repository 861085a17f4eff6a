"""A server whose model is cut over several processes."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path

import httpx
import pytest

from support.crashing_worker import Stream, long_requests, read_all
from support.exhaustive import exhaustive
from support.golden_over_http import check_greedy_ids
from support.mixed_requests import requests_of_mixed_lengths
from support.server_process import ServerProcess

PRECISE = ("--dtype", "float32", "--deterministic")
TENSOR, PIPELINE = ("--tensor-parallel-size", "2"), ("--pipeline-parallel-size", "2")
LAYOUTS = [
    TENSOR,
    exhaustive(PIPELINE),
    exhaustive((*TENSOR, *PIPELINE)),
    exhaustive((*TENSOR, "--cpu-kernels", "torch")),
    exhaustive((*PIPELINE, "--cpu-kernels", "torch")),
]

Expected = Callable[..., Awaitable[list[Stream]]]


@pytest.fixture(scope="module")
def expected() -> Expected:
    """The streams of a model in one process, with some kernels."""
    known: dict[tuple[str, ...], list[Stream]] = {}

    async def streams(*kernels: str) -> list[Stream]:
        if kernels not in known:
            with ServerProcess(*PRECISE, *kernels) as alone:
                known[kernels], _ = await read_all(alone, long_requests(8))
        return known[kernels]

    return streams


@pytest.mark.slow
@pytest.mark.parametrize("layout", LAYOUTS, ids=" ".join)
async def test_8_streams_and_ranks_that_are_killed_and_stopped(
    layout: tuple[str, ...], expected: Expected
) -> None:
    """A rank is stopped, then one killed. The texts are those of a model in one process."""
    bodies = long_requests(8)
    alone = await expected(*(layout[-2:] if "torch" in layout else ()))
    limits = ("--max-worker-restarts", "100", "--step-timeout", "2")
    with ServerProcess(*PRECISE, *layout, *limits) as server:
        assert ("layers 3-5, cpu" in server.text) == (PIPELINE[0] in layout)
        kill, stop = signal.SIGKILL, signal.SIGSTOP
        streams, kills = await read_all(server, bodies, 2, seed=5, signals=[kill, kill, stop])
        assert kills == 2
        for stream, other in zip(streams, alone, strict=True):
            assert (stream.texts, stream.ends) == (other.texts, other.ends)
        assert server.metric("glmserve_worker_restarts_total") == 2
        server.wait_until_idle()
        assert "Traceback" not in server.text
        ranks = range(2 ** (len(set(layout) & {TENSOR[0], PIPELINE[0]})))
        losses = [server.metric(f'glmserve_rank_losses_total{{rank="{r}"}}') for r in ranks]
        assert sum(losses) == server.text.count("lost its rank")


@pytest.mark.exhaustive
@pytest.mark.parametrize("layout", [PIPELINE, (*TENSOR, *PIPELINE)], ids=" ".join)
@pytest.mark.parametrize(
    ("model", "prefix"),
    [("glm1_base", None), ("glm1_int8", None), ("glm2_base", "glm2_ptuning"), ("glm4_base", None)],
)
def test_stages_continue_as_the_original_does(
    golden_models: Path, model: str, prefix: str | None, layout: tuple[str, ...]
) -> None:
    """Prompts in chunks that follow each other, but for the first generation."""
    options = ("--checkpoint", str(golden_models / model), "--skip-tokenizer-init")
    chunks = () if model.startswith("glm1") else ("--max-step-tokens", "8", "--max-batch-size", "4")
    tuned = ("--ptuning-checkpoint", str(golden_models / prefix)) if prefix else ()
    with ServerProcess(*options, *PRECISE, *chunks, *tuned, *layout) as server:
        check_greedy_ids(server, golden_models / (prefix or model))


@pytest.mark.slow
@pytest.mark.parametrize("options", [TENSOR, exhaustive((*TENSOR, *PIPELINE))], ids=" ".join)
def test_ranks_replay_what_one_process_did(tmp_path: Path, options: tuple[str, ...]) -> None:
    """The log-probabilities are the same bits, too."""
    path = tmp_path / "file"
    with ServerProcess("--dtype", "float32", "--deterministic", "--record", str(path)) as server:
        for i in range(4):
            body = {"model": "glm-tiny", "prompt": "a" * i, "max_tokens": 30, "logprobs": 2}
            httpx.post(f"{server.url}/v1/completions", json=body | {"seed": i}).raise_for_status()
        assert server.stop() == 0
    command = [sys.executable, "-m", "glmserve", "replay", str(path)]
    result = subprocess.run([*command, *options], capture_output=True, text=True, check=False)
    assert (result.returncode, result.stderr) == (0, "")
    assert f"replayed  {len(options)} ranks of cpu" in result.stdout
    assert "all tokens are the same" in result.stdout
    assert "log-probabilities of equal tokens differ" not in result.stdout


@pytest.mark.exhaustive
async def test_one_process_replays_what_stages_did(tmp_path: Path) -> None:
    """Steps over different requests at the same time; also each request alone."""
    path = tmp_path / "file"
    with ServerProcess(*PRECISE, *PIPELINE, "--record", str(path)) as server:
        bodies = [body | {"max_tokens": 40} for body in requests_of_mixed_lengths(20)]
        await read_all(server, bodies)
        assert server.stop() == 0
    command = [sys.executable, "-m", "glmserve", "replay", str(path)]
    for options in (["--pipeline-parallel-size", "1"], ["--alone"]):
        result = await asyncio.to_thread(
            subprocess.run, [*command, *options], capture_output=True, text=True
        )
        assert (result.returncode, result.stderr) == (0, "")
        assert "all tokens are the same" in result.stdout
