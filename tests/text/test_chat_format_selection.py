"""Which chat format is chosen, by whom, and what is said when nothing tells."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from glmserve.errors import CheckpointError, OptionError
from glmserve.text import (
    CHAT_FORMATS,
    Tokenizer,
    load_tokenizer,
    read_name_hints,
    select_chat_format,
)
from glmserve.text.chat_format_selection import named_chat_format


@pytest.mark.parametrize(
    ("hint", "name"),
    [
        ("THUDM/chatglm-6b", "chatglm"),
        ("THUDM/chatglm-6b-int4", "chatglm"),
        ("THUDM/chatglm2-6b", "chatglm2"),
        ("chatglm2-6b-32k", "chatglm2"),
        ("THUDM/chatglm2-6b-int4", "chatglm2"),
        ("THUDM/chatglm3-6b-128k", "chatglm3"),
        ("THUDM/glm-4-9b-chat-1m", "glm4"),
        ("THUDM/glm4-9b-chat", "glm4"),
        ("THUDM/glm-4-9b-chat-hf", "glm4"),
        ("THUDM/codegeex2-6b", "codegeex2"),
        ("CodeGeeX2-6B-int4", "codegeex2"),
        ("/data/chatglm3/models/chatglm2-6b/checkpoint-1000", "chatglm2"),
        ("C:\\models\\ChatGLM3-6B", "chatglm3"),
        ("THUDM/codegeex4-all-9b", "codegeex4"),
        ("THUDM/LongWriter-glm4-9b", "glm4"),
        ("THUDM/LongCite-glm4-9b", "glm4"),
        ("zai-org/GLM-4-32B-0414", "glm4-0414"),
        ("zai-org/GLM-Z1-9B-0414", "glm-z1"),
        ("zai-org/GLM-Z1-Rumination-32B-0414", None),
        ("THUDM/glm-edge-4b-chat", "glm-edge"),
        ("glm2", None),
        ("glm-130b", None),
        ("my-model-4bit", None),
        ("", None),
    ],
)
def test_names(hint: str, name: str | None) -> None:
    assert named_chat_format([hint]) == name


def test_every_format_is_named_by_itself() -> None:
    for name in CHAT_FORMATS:
        assert named_chat_format([name]) == name


def test_explicit_wins(small_sentencepiece: Tokenizer) -> None:
    chat_format = select_chat_format(["THUDM/chatglm2-6b"], small_sentencepiece, "codegeex2")
    assert chat_format.name == "codegeex2"


def test_first_hint_wins(small_sentencepiece: Tokenizer) -> None:
    hints = ["", "chatglm2-6b", "codegeex2-6b"]
    assert select_chat_format(hints, small_sentencepiece).name == "chatglm2"


def test_unknown_explicit_format(small_sentencepiece: Tokenizer) -> None:
    choices = "chatglm, chatglm2, chatglm3, glm4, codegeex2"
    with pytest.raises(OptionError, match=f"--chat-format llama: must be one of {choices}"):
        select_chat_format([], small_sentencepiece, "llama")


def test_special_tokens_tell_where_names_do_not(
    small_tiktoken: Tokenizer, load_golden: Any
) -> None:
    assert select_chat_format(["my-model"], small_tiktoken).name == "glm4"
    assert select_chat_format(["my-model"], load_golden("chatglm-6b")[0]).name == "chatglm"
    assert select_chat_format(["my-model"], load_golden("chatglm3-6b")[0]).name == "chatglm3"


def test_nothing_tells(small_sentencepiece: Tokenizer) -> None:
    with pytest.raises(CheckpointError, match="--chat-format must be one of chatglm, chatglm2"):
        select_chat_format(["my-model"], small_sentencepiece)


def test_hints_of_a_checkpoint(tmp_path: Path) -> None:
    directory = tmp_path / "chatglm2-tuned"
    directory.mkdir()
    assert read_name_hints(directory) == ["chatglm2-tuned"]
    (directory / "config.json").write_text(json.dumps({"_name_or_path": "from/config"}))
    config = {"name_or_path": "from/tokenizer", "chat_format": "codegeex2"}
    (directory / "tokenizer_config.json").write_text(json.dumps(config))
    hints = ["codegeex2", "from/config", "from/tokenizer", "chatglm2-tuned"]
    assert read_name_hints(directory) == hints


@pytest.mark.parametrize("value", ["llama", 2])
def test_wrong_chat_format_in_a_checkpoint(tmp_path: Path, value: Any) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"chat_format": value}))
    with pytest.raises(CheckpointError, match=r"config\.json: chat_format must be one of"):
        read_name_hints(tmp_path)


@pytest.mark.parametrize(
    ("model", "name"),
    [
        ("chatglm-6b", "chatglm"),
        ("chatglm2-6b", "chatglm2"),
        ("glm-4-9b-chat", "glm4"),
        ("codegeex2-6b", "codegeex2"),
        ("chatglm3-6b", "chatglm3"),
    ],
)
def test_configs_of_real_models(goldens_dir: Path, tmp_path: Path, model: str, name: str) -> None:
    source = goldens_dir / "configs" / f"{model}.config.json"
    (tmp_path / "config.json").write_bytes(source.read_bytes())
    assert named_chat_format(read_name_hints(tmp_path)) == name


def test_roles_of_chatglm3(train_sentencepiece: Any) -> None:
    """The same tokenizer file serves ChatGLM2 and ChatGLM3; the name makes the difference."""
    directory = train_sentencepiece()
    assert "<|user|>" not in load_tokenizer(directory).special_ids
    assert "<|user|>" not in load_tokenizer(directory, "chatglm2").special_ids
    assert load_tokenizer(directory, "chatglm3").special_ids["<|observation|>"] == 408
    config = {"added_tokens_decoder": {"406": {"content": "<|user|>"}}}
    (directory / "tokenizer_config.json").write_text(json.dumps(config))
    assert load_tokenizer(directory).special_ids["<|user|>"] == 406
    assert "<|user|>" not in load_tokenizer(directory, "chatglm2").special_ids
    (directory / "config.json").write_text(json.dumps({"_name_or_path": "THUDM/chatglm3-6b"}))
    tokenizer = load_tokenizer(directory)
    assert select_chat_format(read_name_hints(directory), tokenizer).name == "chatglm3"
