"""Reference checkpoints of the original models, served by a real server."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from server_process import ServerProcess


@pytest.mark.parametrize("model", ["glm2_bin_sharded", "glm4_base"])
def test_greedy_ids_equal_the_reference(golden_models: Path, model: str) -> None:
    folder = golden_models / model
    reference = np.load(folder / "reference_fp32.npz")
    number = sum(name.startswith("ids_") for name in reference)
    with ServerProcess(
        *("--checkpoint", str(folder), "--skip-tokenizer-init", "--dtype", "float32"),
        *("--max-step-tokens", "64", "--block-size", "4", "--served-model-name", "golden"),
    ) as server:
        for i in range(number):
            greedy = reference[f"greedy_{i}"].tolist()
            body = {
                "model": "golden",
                "prompt": reference[f"ids_{i}"].tolist(),
                "max_tokens": len(greedy),
                "temperature": 0,
                "ignore_eos": True,
                "return_token_ids": True,
            }
            for _ in range(2):  # the second time from the prefix cache
                response = httpx.post(f"{server.url}/v1/completions", json=body, timeout=60)
                assert response.json()["choices"][0]["token_ids"] == greedy


@pytest.fixture(scope="module")
def chatglm2(goldens_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """ChatGLM2 in miniature with its real tokenizer and vocabulary."""
    folder = tmp_path_factory.mktemp("chatglm2")
    for file in (goldens_dir / "e2e" / "glm2").iterdir():
        shutil.copy(file, folder)
    shutil.copy(goldens_dir / "tokenizers" / "chatglm2-6b" / "tokenizer.model", folder)
    return folder


def test_texts_equal_the_reference(chatglm2: Path) -> None:
    goldens: list[dict[str, Any]] = json.loads((chatglm2 / "goldens.json").read_text())
    arguments = ("--checkpoint", str(chatglm2), "--dtype", "float32", "--served-model-name", "g")
    with ServerProcess(*arguments) as server:
        for golden in goldens:
            messages = []
            for question, answer in golden["history"]:
                messages.append({"role": "user", "content": question})
                messages.append({"role": "assistant", "content": answer})
            messages.append({"role": golden["role"], "content": golden["query"]})
            body = {
                "model": "g",
                "messages": messages,
                "max_tokens": len(golden["greedy_ids"]),
                "temperature": 0,
                "return_token_ids": True,
            }
            response = httpx.post(f"{server.url}/v1/chat/completions", json=body, timeout=60)
            answer = response.json()
            assert answer["prompt_token_ids"] == golden["prompt_ids"]
            assert answer["choices"][0]["token_ids"] == golden["greedy_ids"]
            assert answer["choices"][0]["message"]["content"] == golden["greedy_text"]
