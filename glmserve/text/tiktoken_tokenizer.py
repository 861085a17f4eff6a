"""The tokenizer of GLM-4: byte-level BPE in tiktoken's file format, read without its network."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from glmserve.errors import CheckpointError, InvalidRequestError
from glmserve.model_config.reader import read_whole
from glmserve.text.tokenizer import Tokenizer

GLM4_PATTERN = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
"""Regex that cuts text into words before merging (`pat_str` of tokenization_chatglm.py)."""

GLM4_SPECIAL_TOKENS = (
    "<|endoftext|>",
    "[MASK]",
    "[gMASK]",
    "[sMASK]",
    "<sop>",
    "<eop>",
    "<|system|>",
    "<|user|>",
    "<|assistant|>",
    "<|observation|>",
    "<|begin_of_image|>",
    "<|end_of_image|>",
    "<|begin_of_video|>",
    "<|end_of_video|>",
)
"""Special tokens of glm-4-9b in the order of their ids, which follow the last rank."""

_REQUIRED_SPECIAL_TOKENS = ("<|endoftext|>", "[gMASK]", "<sop>")

_LONGEST_BLANK_RUN = 100_000
"""Longer runs of blanks are refused: tiktoken's regex engine keeps one state per blank for
`\\s+(?!\\S)`, and panics when it runs out of stack."""

_TOO_LONG_BLANK_RUN = re.compile(rf"\s{{{_LONGEST_BLANK_RUN + 1}}}")

_LARGEST_VOCABULARY = 2**24


class TiktokenTokenizer(Tokenizer):
    """A tokenizer of ranks (bytes -> id) and special ids. It adds no dummy blank to a text."""

    def __init__(
        self, path: Path, ranks: dict[bytes, int], pattern: str, special_ids: Mapping[str, int]
    ) -> None:
        from tiktoken import Encoding

        _check_vocabulary(path, ranks, special_ids)
        vocab_size = max(*ranks.values(), *special_ids.values()) + 1
        if vocab_size > _LARGEST_VOCABULARY:
            raise CheckpointError(f"{path}: the id {vocab_size - 1} is too large for a vocabulary")
        self._pieces = {rank: piece for piece, rank in ranks.items()}
        super().__init__(
            vocab_size=vocab_size,
            special_ids=special_ids,
            eos_id=special_ids["<|endoftext|>"],
            prompt_prefix=(special_ids["[gMASK]"], special_ids["<sop>"]),
            never_sampled=frozenset(range(vocab_size)).difference(
                self._pieces, special_ids.values()
            ),
        )
        try:
            self._encoding = Encoding(
                "glm4", pat_str=pattern, mergeable_ranks=ranks, special_tokens={}
            )
        except ValueError as error:
            raise CheckpointError(f"{path}: cannot be used as a tokenizer: {error}") from None

    @classmethod
    def from_file(cls, path: Path, tokenizer_config: Mapping[str, Any]) -> TiktokenTokenizer:
        """Read a `tokenizer.model` of base64 lines.

        Special tokens are those of `added_tokens_decoder` in tokenizer_config.json, or GLM-4's if
        there are none.

        Raises:
            CheckpointError: a line is damaged, or tokens are missing or numbered twice.
        """
        ranks = _read_ranks(path)
        added = tokenizer_config.get("added_tokens_decoder")
        if isinstance(added, dict) and added:
            special_ids = _added_tokens(path.with_name("tokenizer_config.json"), added)
        else:
            special_ids = {name: len(ranks) + i for i, name in enumerate(GLM4_SPECIAL_TOKENS)}
        return cls(path, ranks, GLM4_PATTERN, special_ids)

    def _encode(self, text: str) -> list[int]:
        if len(text) > _LONGEST_BLANK_RUN and _TOO_LONG_BLANK_RUN.search(text):
            raise InvalidRequestError(
                f"the text has a run of more than {_LONGEST_BLANK_RUN} blanks, "
                "which this model's tokenizer cannot take"
            )
        return self._encoding.encode_ordinary(text)

    def _piece_bytes(self, token_id: int) -> bytes:
        return self._pieces.get(token_id, b"")


def _read_ranks(path: Path) -> dict[bytes, int]:
    ranks = {}
    for number, line in enumerate(read_whole(path).splitlines(), 1):
        if not line:
            continue
        try:
            piece, rank = line.split()
            ranks[base64.b64decode(piece, validate=True)] = int(rank)
        except (ValueError, binascii.Error):
            raise CheckpointError(
                f"{path}: line {number} is not a base64 token and its rank; download it again"
            ) from None
    return ranks


def _added_tokens(path: Path, added: dict[str, Any]) -> dict[str, int]:
    try:
        return {str(token["content"]): int(token_id) for token_id, token in added.items()}
    except (ValueError, TypeError, KeyError):
        raise CheckpointError(f"{path}: added_tokens_decoder is not id -> token") from None


def _check_vocabulary(
    path: Path, ranks: Mapping[bytes, int], special_ids: Mapping[str, int]
) -> None:
    missing = sum(bytes([byte]) not in ranks for byte in range(256))
    if missing:
        raise CheckpointError(f"{path}: {missing} of the 256 single bytes have no token")
    ids = [*ranks.values(), *special_ids.values()]
    if len(set(ids)) != len(ids) or min(ids) < 0:
        raise CheckpointError(f"{path}: two tokens, special ones included, have the same id")
    for name in _REQUIRED_SPECIAL_TOKENS:
        if name not in special_ids:
            raise CheckpointError(f"{path}: there is no special token {name}: not a GLM-4 model")
