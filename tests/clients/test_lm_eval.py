"""lm-evaluation-harness against /v1/completions, and its numbers once more from the weights."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import sentencepiece

from glmserve.config import EMBEDDED_CHECKPOINT
from support.client_records import report_task
from support.server_process import ServerProcess

pytestmark = [
    pytest.mark.clients,
    pytest.mark.timeout(600),
    pytest.mark.skipif(find_spec("lm_eval") is None, reason="the clients extra is missing"),
]

TASKS = Path(__file__).parent / "lm_eval"


def evaluate(
    server: ServerProcess, task: str, folder: Path, *options: str, **arguments: str
) -> list[Any]:
    """The harness's own log of the samples of a task."""
    settings = {
        "model": "glm-tiny",
        "base_url": f"{server.url}/v1/completions",
        "tokenizer_backend": "remote",
        "max_retries": "1",
        **arguments,
    }
    pairs = ",".join(f"{key}={value}" for key, value in settings.items())
    command = [sys.executable, "-m", "lm_eval", "run", "--model", "local-completions"]
    command += ["--model_args", pairs, "--include_path", ".", "--tasks", task]
    command += ["--output_path", str(folder), "--log_samples", *options]
    offline = {"HF_HOME": str(folder / "hf"), "HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1"}
    done = subprocess.run(
        command, cwd=TASKS, env=os.environ | offline, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stdout + done.stderr
    (log,) = folder.rglob(f"samples_{task}_*.jsonl")
    return [json.loads(line) for line in log.read_text().splitlines()]


def report(request: pytest.FixtureRequest, works: str) -> None:
    harness = {"client": "lm-evaluation-harness", "version": version("lm_eval")}
    report_task(request.node, harness | {"api": "completions", "works": works})


def scored_by_server(server: ServerProcess, ids: list[int], start: int) -> float:
    body = {"model": "glm-tiny", "prompt": ids, "echo": True, "logprobs": 0, "max_tokens": 0}
    answer = httpx.post(f"{server.url}/v1/completions", json=body).json()
    return sum(answer["choices"][0]["logprobs"]["token_logprobs"][start:])


def scored_by_weights(ids: list[int], start: int) -> float:
    from support.paged_model import PagedModel

    logits = PagedModel(EMBEDDED_CHECKPOINT).logits(ids).astype(np.float64)
    logprobs = logits - np.logaddexp.reduce(logits, axis=-1, keepdims=True)
    return float(sum(logprobs[i - 1, ids[i]] for i in range(start, len(ids))))


@pytest.mark.parametrize("options", [(), ("--batch_size", "4")], ids=["single", "batches"])
def test_loglikelihoods(
    request: pytest.FixtureRequest,
    server: ServerProcess,
    tmp_path: Path,
    options: tuple[str, ...],
) -> None:
    tokenizer = sentencepiece.SentencePieceProcessor(
        model_file=str(EMBEDDED_CHECKPOINT / "tokenizer.model")
    )
    samples = evaluate(server, "glmserve_choice", tmp_path, *options)
    assert len(samples) == 4
    for sample in samples:
        for asked, response in zip(
            sample["arguments"].values(), sample["filtered_resps"], strict=True
        ):
            context, continuation = asked["arg_0"], asked["arg_1"]
            ids, start = tokenizer.encode(context + continuation), len(tokenizer.encode(context))
            found = float(response[0])
            assert found == pytest.approx(scored_by_server(server, ids, start), abs=1e-3)
            assert found == pytest.approx(scored_by_weights(ids, start), abs=1e-2)
    report(request, "log-likelihoods")


def test_generations(request: pytest.FixtureRequest, server: ServerProcess, tmp_path: Path) -> None:
    samples = evaluate(server, "glmserve_generate", tmp_path)
    assert len(samples) == 4
    for sample in samples:
        text = sample["resps"][0][0]
        assert text
        assert "。" not in text
    report(request, "generation")


def test_generations_without_a_tokenizer(server: ServerProcess, tmp_path: Path) -> None:
    """The harness then sends the text itself, which begins with the model's own prefix."""
    samples = evaluate(
        server, "glmserve_generate", tmp_path, tokenizer_backend="none", eos_string="</s>"
    )
    assert all(sample["resps"][0][0] for sample in samples)
