"""Reference checkpoints of the original models, served by a real server."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import httpx
import pytest

from support.exhaustive import exhaustive
from support.golden_over_http import check_greedy_ids
from support.server_process import ServerProcess
from support.slow import slow


@pytest.mark.parametrize(
    ("model", "prefix", "step_tokens"),
    [
        slow("glm1_base", None, 128),
        exhaustive("glm1_int8", None, 128),
        exhaustive("glm2_bin_sharded", None, 64),
        slow("glm2_base", "glm2_ptuning", 64),
        ("glm4_base", None, 64),
    ],
)
def test_greedy_ids_equal_the_reference(
    golden_models: Path, model: str, prefix: str | None, step_tokens: int
) -> None:
    folder = golden_models / model
    with ServerProcess(
        *("--checkpoint", str(folder), "--skip-tokenizer-init", "--dtype", "float32"),
        *("--max-step-tokens", str(step_tokens), "--block-size", "4"),
        *(("--ptuning-checkpoint", str(golden_models / prefix)) if prefix else ()),
    ) as server:
        # The second time from the prefix cache, if there is one.
        check_greedy_ids(server, golden_models / (prefix or model), times=2)


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
        assert _continues_exactly(server, messages)


def _continues_exactly(server: ServerProcess, messages: list[dict[str, str]]) -> bool:
    """Whether an answer that is cut anywhere goes on as if it had not been cut."""
    body = {"model": "g", "max_tokens": 10, "temperature": 0, "return_token_ids": True}

    def ask(**fields: Any) -> Any:
        response = httpx.post(f"{server.url}/v1/chat/completions", json=body | fields, timeout=60)
        return response.json()

    whole = ask(messages=messages)
    ids = whole["choices"][0]["token_ids"]
    compared = 0
    for cut in range(1, 8):
        tokens = {"tokens": ids[:cut]}
        text = httpx.post(f"{server.url}/detokenize", json=tokens, timeout=60).json()["prompt"]
        begun = [*messages, {"role": "assistant", "content": text}]
        rest = ask(messages=begun, max_tokens=10 - cut)
        if rest["prompt_token_ids"] != whole["prompt_token_ids"] + ids[:cut]:
            continue  # the text has other tokens, as that of tokens chosen at random may
        compared += 1
        assert rest["choices"][0]["token_ids"] == ids[cut:]
        assert (
            text + rest["choices"][0]["message"]["content"]
            == (whole["choices"][0]["message"]["content"])
        )
    return compared > 0


@pytest.fixture(scope="module")
def chatglm(goldens_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> ServerProcess:  # type: ignore[misc]
    """ChatGLM-6B with its real tokenizer and vocabulary, and dummy weights of a small shape."""
    folder = tmp_path_factory.mktemp("chatglm-6b")
    for file in ("ice_text.model", "tokenizer_config.json"):
        shutil.copy(goldens_dir / "tokenizers" / "chatglm-6b" / file, folder)
    config = json.loads((goldens_dir / "configs" / "chatglm-6b.config.json").read_text())
    small = {"hidden_size": 16, "inner_hidden_size": 32, "num_attention_heads": 2, "num_layers": 2}
    (folder / "config.json").write_text(json.dumps(config | small))
    arguments = ("--checkpoint", str(folder), "--load-format", "dummy", "--dtype", "float32")
    with ServerProcess(*arguments, "--served-model-name", "g") as server:
        yield server


@pytest.mark.slow
def test_the_announced_prompt_of_ids_has_its_marks(golden_models: Path) -> None:
    prefix = str(golden_models / "glm1_ptuning")
    arguments = ("--checkpoint", str(golden_models / "glm1_base"), "--ptuning-checkpoint", prefix)
    with ServerProcess(*arguments, "--skip-tokenizer-init") as server:
        assert f"behind the prefix {prefix}" in server.text
        body = json.loads(re.findall(r"-d '(.*)'", server.text)[0])
        assert body["prompt"] == [1, 2, 3, 501, 504]
        body["stream"] = False
        response = httpx.post(f"{server.url}/v1/completions", json=body, timeout=60)
        assert response.status_code == 200


GREEDY = {"model": "g", "max_tokens": 8, "temperature": 0, "return_token_ids": True}


@pytest.mark.slow
def test_chats_of_the_first_generation(chatglm: ServerProcess, goldens_dir: Path) -> None:
    """A conversation's prompt is the original's, and its answer that of the bare ids."""
    file = goldens_dir / "tokenizers" / "chatglm-6b" / "goldens.json"
    for golden in json.loads(file.read_text())["chats"]:
        messages = []
        for question, answer in golden["history"]:
            messages.append({"role": "user", "content": question})
            messages.append({"role": "assistant", "content": answer})
        messages.append({"role": "user", "content": golden["query"]})
        chat = GREEDY | {"messages": messages}
        response = httpx.post(f"{chatglm.url}/v1/chat/completions", json=chat, timeout=60).json()
        assert response["prompt_token_ids"] == golden["ids"]
        bare = GREEDY | {"prompt": golden["ids"]}
        text = httpx.post(f"{chatglm.url}/v1/completions", json=bare, timeout=60).json()
        assert response["choices"][0]["token_ids"] == text["choices"][0]["token_ids"]


@pytest.mark.slow
def test_texts_of_the_first_generation(chatglm: ServerProcess) -> None:
    """A text gets the tokens that end a prompt; ids must have them, and say so."""
    url = f"{chatglm.url}/v1/completions"
    choice = httpx.post(url, json=GREEDY | {"prompt": "你好"}, timeout=60).json()["choices"][0]
    assert choice["prompt_token_ids"] == [5, 74874, 130001, 130004]
    refused = httpx.post(url, json=GREEDY | {"prompt": [5, 74874]}, timeout=60)
    assert refused.status_code == 400
    error = refused.json()["error"]
    assert error["param"] == "prompt"
    assert "usually end with 130001, 130004" in error["message"]
    echo = GREEDY | {"prompt": "你好", "echo": True, "logprobs": 1}
    refused = httpx.post(url, json=echo, timeout=60)
    assert (refused.status_code, refused.json()["error"]["param"]) == (400, "logprobs")
    inputs = {"model": "g", "input": ["你好", "Hello"]}
    vectors = httpx.post(f"{chatglm.url}/v1/embeddings", json=inputs, timeout=60).json()["data"]
    assert [len(vector["embedding"]) for vector in vectors] == [16, 16]
    long = GREEDY | {"prompt": "a " * 3000}
    refused = httpx.post(url, json=long, timeout=60)
    assert refused.status_code == 400
    assert "2048" in refused.json()["error"]["message"]
