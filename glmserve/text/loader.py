"""Finds and loads a checkpoint's tokenizer, by the names and contents of its files."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from glmserve.errors import CheckpointError
from glmserve.model_config.reader import read_json_object
from glmserve.text.chat_format_selection import named_chat_format, read_name_hints
from glmserve.text.ice_tokenizer import IceTokenizer
from glmserve.text.sentencepiece_tokenizer import SentencePieceTokenizer
from glmserve.text.tiktoken_tokenizer import TiktokenTokenizer
from glmserve.text.tokenizer import Tokenizer
from glmserve.text.tokenizer_json import load_tokenizer_json

_TIKTOKEN_LINE = re.compile(rb"[A-Za-z0-9+/]+={0,2} \d+\r?\n")
_GIT_LFS_POINTER = b"version https://git-lfs"
_PROTOBUF_FIRST_FIELD = b"\n"
"""First byte of a SentencePiece model: the tag of field 1, length-delimited, which is 0x0A."""


def load_tokenizer(directory: Path, chat_format: str | None = None) -> Tokenizer:
    """Load the tokenizer of the checkpoint in `directory`.

    Args:
        chat_format: name of the format given by the user. ChatGLM2 and ChatGLM3 have the same
            tokenizer file and differ only by name.

    Raises:
        OptionError: `chat_format` is not the name of a format.
        CheckpointError: files are missing, damaged or of an unknown kind.
    """
    ice, model, json = (
        directory / name for name in ("ice_text.model", "tokenizer.model", "tokenizer.json")
    )
    if ice.is_file():
        _head(ice)
        return IceTokenizer.from_file(ice)
    if model.is_file():
        return _load_tokenizer_model(model, chat_format)
    if json.is_file():
        return load_tokenizer_json(json)
    raise CheckpointError(
        f"{directory}: no tokenizer: none of ice_text.model, tokenizer.model and tokenizer.json "
        "is here; --skip-tokenizer-init serves token ids without one"
    )


def _load_tokenizer_model(path: Path, chat_format: str | None) -> Tokenizer:
    head = _head(path)
    if _TIKTOKEN_LINE.match(head):
        return TiktokenTokenizer.from_file(path)
    if head.startswith(_PROTOBUF_FIRST_FIELD):
        name = named_chat_format(read_name_hints(path.parent), chat_format)
        config = _tokenizer_config(path.parent)
        roles = name == "chatglm3" or (name is None and "<|user|>" in str(config))
        return SentencePieceTokenizer.from_file(path, roles=roles)
    raise CheckpointError(
        f"{path}: neither a SentencePiece model nor a tiktoken file; download it again"
    )


def _head(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            head = file.read(256)
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read: {error.strerror}") from None
    if head.startswith(_GIT_LFS_POINTER):
        raise CheckpointError(f"{path}: a Git LFS pointer, not the file itself; run `git lfs pull`")
    return head


def _tokenizer_config(directory: Path) -> dict[str, Any]:
    path = directory / "tokenizer_config.json"
    return read_json_object(path) if path.is_file() else {}
