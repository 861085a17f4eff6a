"""Which tokenizer a folder's files make, and what is said about broken ones."""

from __future__ import annotations

import base64
import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from glmserve.errors import CheckpointError
from glmserve.text import ChatMessage, load_tokenizer
from glmserve.text.ice_tokenizer import IceTokenizer
from glmserve.text.sentencepiece_tokenizer import SentencePieceTokenizer
from glmserve.text.templates.selection import ChatOptions, select_format
from glmserve.text.tiktoken_tokenizer import TiktokenTokenizer


def _error(directory: Path) -> str:
    with pytest.raises(CheckpointError) as error:
        load_tokenizer(directory)
    assert "\n" not in error.value.message
    return error.value.message


def test_no_files(tmp_path: Path) -> None:
    assert "--skip-tokenizer-init" in _error(tmp_path)
    assert str(tmp_path) in _error(tmp_path)


@pytest.mark.parametrize("name", ["ice_text.model", "tokenizer.model"])
def test_git_lfs_pointer(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\n")
    assert f"{name}: a Git LFS pointer" in _error(tmp_path)


@pytest.mark.parametrize("data", [b"", b"<html>", b"\x00\x01"])
def test_neither_kind(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "tokenizer.model").write_bytes(data)
    assert "tokenizer.model: neither a SentencePiece model nor a tiktoken file" in _error(tmp_path)


def test_truncated_sentencepiece(tmp_path: Path, train_sentencepiece: Any) -> None:
    data = (train_sentencepiece() / "tokenizer.model").read_bytes()
    (tmp_path / "tokenizer.model").write_bytes(data[:1001])
    assert "not a complete SentencePiece model (1001 bytes)" in _error(tmp_path)
    (tmp_path / "tokenizer.model").rename(tmp_path / "ice_text.model")
    assert "ice_text.model: not a complete SentencePiece model" in _error(tmp_path)
    (tmp_path / "ice_text.model").write_bytes(b"")
    assert "ice_text.model: not a complete SentencePiece model (0 bytes)" in _error(tmp_path)


def test_ice_model_of_something_else(tmp_path: Path, train_sentencepiece: Any) -> None:
    shutil.copy(train_sentencepiece() / "tokenizer.model", tmp_path / "ice_text.model")
    assert "has no piece [gMASK]: not the model of ChatGLM-6B" in _error(tmp_path)


def test_sentencepiece_without_an_end(tmp_path: Path, train_sentencepiece: Any) -> None:
    assert "has no end token" in _error(train_sentencepiece(eos_id=-1))


@pytest.mark.parametrize("piece", [b"<0x41>", b"</s>", "\u2581t".encode()])
def test_pieces_that_are_no_text(tmp_path: Path, train_sentencepiece: Any, piece: bytes) -> None:
    path = train_sentencepiece() / "tokenizer.model"
    data = path.read_bytes()
    assert piece in data
    (tmp_path / "tokenizer.model").write_bytes(data.replace(piece, b"\xff" * len(piece), 1))
    assert "SentencePiece model" in _error(tmp_path)


def test_the_template_of_a_named_format_is_not_run(tmp_path: Path, rank_lines: list[str]) -> None:
    """The key "chat_format" is glmserve's own."""
    roles = ("system", "user", "assistant", "observation")
    names = {"256": "<|endoftext|>", "257": "[gMASK]", "258": "<sop>"}
    names |= {str(259 + i): f"<|{role}|>" for i, role in enumerate(roles)}
    added = {token_id: {"content": name} for token_id, name in names.items()}
    _write_ranks(tmp_path, rank_lines)
    prompts = []
    for template in ("{{ 1 / 0 }}", "{% for m in messages %}HACKED{% endfor %}", None):
        config = {"added_tokens_decoder": added, "chat_format": "glm4", "chat_template": template}
        (tmp_path / "tokenizer_config.json").write_text(json.dumps(config))
        (tmp_path / "chat_template.jinja").write_text(template or "")
        chat = select_format(tmp_path, load_tokenizer(tmp_path), ChatOptions()).chat
        assert chat is not None
        prompts.append(chat.render([ChatMessage("user", "hi")]))
    assert prompts[0] == prompts[1] == prompts[2]


def test_folder_in_place_of_a_file(tmp_path: Path) -> None:
    (tmp_path / "tokenizer.model").mkdir()
    assert "no tokenizer" in _error(tmp_path)


def _write_ranks(directory: Path, lines: list[str]) -> None:
    (directory / "tokenizer.model").write_text("\n".join(lines) + "\n")


@pytest.fixture
def rank_lines() -> list[str]:
    return [f"{base64.b64encode(bytes([byte])).decode()} {byte}" for byte in range(256)]


@pytest.mark.parametrize("line", ["YWI=", "YWI= x", "YW! 256", "YWI= 256 1"])
def test_damaged_rank_line(tmp_path: Path, rank_lines: list[str], line: str) -> None:
    _write_ranks(tmp_path, [*rank_lines, line])
    assert "tokenizer.model: line 257 is not a base64 token" in _error(tmp_path)


def test_truncated_ranks(tmp_path: Path, rank_lines: list[str]) -> None:
    _write_ranks(tmp_path, rank_lines[:100])
    assert "156 of the 256 single bytes have no token" in _error(tmp_path)


def test_rank_given_twice(tmp_path: Path, rank_lines: list[str]) -> None:
    _write_ranks(tmp_path, [*rank_lines, "YWI= 255"])
    assert "have the same id" in _error(tmp_path)


@pytest.mark.parametrize(
    ("added", "complaint"),
    [
        ({"x": {"content": "<sop>"}}, "added_tokens_decoder is not id -> token"),
        ({"300": "<sop>"}, "added_tokens_decoder is not id -> token"),
        ({"300": {"content": "<|endoftext|>"}}, "no special token [gMASK]"),
        ({"0": {"content": "<|endoftext|>"}}, "have the same id"),
    ],
)
def test_wrong_special_tokens(
    tmp_path: Path, rank_lines: list[str], added: dict[str, Any], complaint: str
) -> None:
    _write_ranks(tmp_path, rank_lines)
    config = json.dumps({"added_tokens_decoder": added})
    (tmp_path / "tokenizer_config.json").write_text(config)
    assert complaint in _error(tmp_path)


def test_gaps_between_ids_are_never_sampled(tmp_path: Path, rank_lines: list[str]) -> None:
    _write_ranks(tmp_path, rank_lines)
    names = {"300": "<|endoftext|>", "301": "[gMASK]", "303": "<sop>"}
    added = {token_id: {"content": name} for token_id, name in names.items()}
    config = json.dumps({"added_tokens_decoder": added})
    (tmp_path / "tokenizer_config.json").write_text(config)
    tokenizer = load_tokenizer(tmp_path)
    assert tokenizer.vocab_size == 304
    assert tokenizer.never_sampled == {*range(256, 300), 302}
    assert tokenizer.decode([65, 256, 302, 66]) == "AB"


def test_damaged_tokenizer_config(tmp_path: Path, rank_lines: list[str]) -> None:
    _write_ranks(tmp_path, rank_lines)
    (tmp_path / "tokenizer_config.json").write_text("{")
    assert "tokenizer_config.json: not valid JSON" in _error(tmp_path)


def test_kinds(load_golden: Any) -> None:
    assert isinstance(load_golden("chatglm-6b")[0], IceTokenizer)
    assert isinstance(load_golden("chatglm2-6b")[0], SentencePieceTokenizer)
    assert isinstance(load_golden("glm-4-tiny")[0], TiktokenTokenizer)


def test_import_is_light() -> None:
    """Start-up time: neither tokenizer library is imported before a checkpoint needs it."""
    code = (
        "import sys, glmserve.text.loader\n"
        "heavy = {'torch', 'tiktoken', 'sentencepiece', 'tokenizers', 'regex'} & set(sys.modules)\n"
        "sys.exit(str(heavy) if heavy else 0)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
