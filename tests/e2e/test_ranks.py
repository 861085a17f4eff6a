"""A server whose model is cut over two processes."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from support.crashing_worker import long_requests, read_all
from support.exhaustive import exhaustive
from support.server_process import ServerProcess

OPTIONS = ("--dtype", "float32", "--tensor-parallel-size", "2")


@pytest.mark.slow
@pytest.mark.parametrize("kernels", ["native", exhaustive("torch")])
async def test_8_streams_and_ranks_that_are_killed_and_stopped(kernels: str) -> None:
    """Rank 1 is stopped, then rank 0 killed. The texts are those of a model in one process."""
    bodies = long_requests(8)
    own = ("--deterministic", "--cpu-kernels", kernels)
    with ServerProcess("--dtype", "float32", *own) as alone:
        expected, _ = await read_all(alone, bodies)
    limits = ("--max-worker-restarts", "100", "--step-timeout", "2", *own)
    with ServerProcess(*OPTIONS, *limits) as server:
        kill, stop = signal.SIGKILL, signal.SIGSTOP
        streams, kills = await read_all(server, bodies, 2, seed=5, signals=[kill, kill, stop])
        assert kills == 2
        for stream, other in zip(streams, expected, strict=True):
            assert (stream.texts, stream.ends) == (other.texts, other.ends)
        assert server.metric("glmserve_worker_restarts_total") == 2
        server.wait_until_idle()
        assert "Traceback" not in server.text
        losses = [server.metric(f'glmserve_rank_losses_total{{rank="{r}"}}') for r in range(2)]
        assert sum(losses) == server.text.count("lost its rank")


@pytest.mark.slow
def test_two_ranks_replay_what_one_process_did(tmp_path: Path) -> None:
    """The log-probabilities are the same bits, too."""
    path = tmp_path / "file"
    with ServerProcess("--dtype", "float32", "--deterministic", "--record", str(path)) as server:
        for i in range(4):
            body = {"model": "glm-tiny", "prompt": "a" * i, "max_tokens": 30, "logprobs": 2}
            httpx.post(f"{server.url}/v1/completions", json=body | {"seed": i}).raise_for_status()
        assert server.stop() == 0
    command = [sys.executable, "-m", "glmserve", "replay", str(path)]
    result = subprocess.run(
        [*command, "--tensor-parallel-size", "2"], capture_output=True, text=True, check=False
    )
    assert (result.returncode, result.stderr) == (0, "")
    assert "replayed  2 ranks of cpu" in result.stdout
    assert "all tokens are the same" in result.stdout
    assert "log-probabilities of equal tokens differ" not in result.stdout
