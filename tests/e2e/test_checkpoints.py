"""A checkpoint as people have them: an odd folder, an added token, defaults, its own template."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator

import httpx
import pytest

from glmserve.config import EMBEDDED_CHECKPOINT
from support.server_process import ServerProcess

DRUG, LINE_FEED = 2677, 13
TEMPLATE = "{% for m in messages %}{{ m.role }}: {{ m.content }}</s>{% endfor %}assistant: "


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    folder = tmp_path_factory.mktemp("models") / os.fsdecode(b"\xc4\xa3\xd0\xcd")
    shutil.copytree(EMBEDDED_CHECKPOINT, folder)
    added = {str(DRUG): {"content": "<drug>", "special": False}}
    config = {"added_tokens_decoder": added, "chat_template": TEMPLATE}
    (folder / "tokenizer_config.json").write_text(json.dumps(config), encoding="utf-8-sig")
    defaults = {"eos_token_id": [2, LINE_FEED], "temperature": 0.0, "num_beams": 2}
    (folder / "generation_config.json").write_text(json.dumps(defaults))
    with ServerProcess("--checkpoint", str(folder)) as server:
        yield server


@pytest.fixture(scope="module")
def client(server: ServerProcess) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=server.url, timeout=30) as client:
        yield client


def _complete(client: httpx.Client, **fields: object) -> dict[str, object]:
    body = {"model": "模型", "prompt": "hi", "max_tokens": 4, **fields}
    answer = client.post("/v1/completions", json=body)
    assert answer.status_code == 200, answer.text
    choice: dict[str, object] = answer.json()["choices"][0]
    return choice


def test_the_folders_name(client: httpx.Client) -> None:
    assert [model["id"] for model in client.get("/v1/models").json()["data"]] == ["模型"]


def test_what_the_start_says(server: ServerProcess) -> None:
    text = server.text
    assert "chats     rendered by the chat template in tokenizer_config.json" in text
    assert "defaults  temperature 0 (generation_config.json)" in text
    assert "note: num_beams of generation_config.json has no effect" in text


def test_an_added_token(client: httpx.Client) -> None:
    tokens = client.post("/tokenize", json={"prompt": "a<drug>b"}).json()["tokens"]
    assert tokens.count(DRUG) == 1
    text = client.post("/detokenize", json={"tokens": tokens}).json()["prompt"]
    assert text.endswith("a<drug>b")
    choice = _complete(client, logit_bias={str(DRUG): 100})
    assert choice["text"] == "<drug>" * 4


def test_every_end_token(client: httpx.Client) -> None:
    choice = _complete(client, logit_bias={str(LINE_FEED): 100})
    assert (choice["text"], choice["finish_reason"]) == ("", "stop")


def test_the_default_is_greedy(client: httpx.Client) -> None:
    texts = {_complete(client, seed=seed)["text"] for seed in range(4)}
    assert len(texts) == 1


def test_the_checkpoints_template(client: httpx.Client) -> None:
    messages = [{"role": "user", "content": "hi</s>"}]
    tokens = client.post("/tokenize", json={"messages": messages}).json()["tokens"]
    assert tokens.count(2) == 1
    text = client.post("/detokenize", json={"tokens": tokens}).json()["prompt"]
    assert text.lstrip() == "user: hi</s></s> assistant: "
