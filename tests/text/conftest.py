"""Tokenizers for the text tests: the real ones where goldens are, small trained ones otherwise."""

from __future__ import annotations

import base64
import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from glmserve.text import Tokenizer, load_tokenizer

_TRAINING_TEXT = """\
The quick brown fox jumps over the lazy dog. 敏捷的棕色狐狸跳过懒狗。
Hello, how are you today? 你好，请介绍一下清华大学的历史。
def f(x):    return x * 2    # 12345 67890
[Round 1] 问：你好 答：你好！我是人工智能助手。
"""


@pytest.fixture(scope="session")
def load_golden(goldens_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Tokenizer and goldens of one model, its folder completed as the goldens' README says."""
    source = goldens_dir / "tokenizers"
    loaded: dict[str, tuple[Tokenizer, dict[str, Any]]] = {}

    def load(model: str) -> tuple[Tokenizer, dict[str, Any]]:
        if model not in loaded:
            directory = tmp_path_factory.mktemp("tokenizers") / model
            shutil.copytree(source / model, directory)
            if model == "chatglm3-6b":
                shutil.copy(source / "chatglm2-6b" / "tokenizer.model", directory)
            if model == "codegeex2-6b":
                _derive(source, directory)
            goldens = json.loads((directory / "goldens.json").read_text(encoding="utf-8"))
            loaded[model] = load_tokenizer(directory), goldens
        return loaded[model]

    return load


def _derive(source: Path, directory: Path) -> None:
    """CodeGeeX2's model is ChatGLM2's with one byte changed, the dummy prefix switched off."""
    rule = json.loads((directory / "derive.json").read_text(encoding="utf-8"))
    data = bytearray((source / "chatglm2-6b" / "tokenizer.model").read_bytes())
    assert data[rule["byte_offset"]] == rule["old_byte"]
    data[rule["byte_offset"]] = rule["new_byte"]
    (directory / "tokenizer.model").write_bytes(data)


@pytest.fixture(scope="session")
def train_sentencepiece(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Folder with a small `tokenizer.model` in ChatGLM2's format; trainer options may be given."""

    def train(**options: Any) -> Path:
        import sentencepiece

        directory = tmp_path_factory.mktemp("sentencepiece")
        (directory / "text").write_text(_TRAINING_TEXT, encoding="utf-8")
        settings: dict[str, Any] = {
            "vocab_size": 400,
            "model_type": "bpe",
            "byte_fallback": True,
            "split_digits": True,
            "normalization_rule_name": "identity",
            "remove_extra_whitespaces": False,
            "character_coverage": 1.0,
            "minloglevel": 2,
        }
        sentencepiece.SentencePieceTrainer.train(
            input=str(directory / "text"),
            model_prefix=str(directory / "tokenizer"),
            **(settings | options),
        )
        return directory

    return train


@pytest.fixture(scope="session")
def small_sentencepiece(train_sentencepiece: Any) -> Tokenizer:
    return load_tokenizer(train_sentencepiece())


@pytest.fixture(scope="session")
def small_tiktoken_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A `tokenizer.model` in GLM-4's format: the bytes, then some merges of English and Chinese."""
    words = [" t", "he", " the", "ll", "ello", "你"[:1], "好", "  ", "\n\n", " \n", "12", "123"]
    pieces = [bytes([byte]) for byte in range(256)]
    for word in words:
        data = word.encode()
        for end in range(2, len(data) + 1):
            if data[:end] not in pieces:
                pieces.append(data[:end])
    directory = tmp_path_factory.mktemp("tiktoken")
    lines = [f"{base64.b64encode(piece).decode()} {rank}" for rank, piece in enumerate(pieces)]
    (directory / "tokenizer.model").write_text("\n".join(lines) + "\n", encoding="ascii")
    return directory


@pytest.fixture(scope="session")
def small_tiktoken(small_tiktoken_dir: Path) -> Tokenizer:
    return load_tokenizer(small_tiktoken_dir)
