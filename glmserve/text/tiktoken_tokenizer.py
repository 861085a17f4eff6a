"""The tokenizer of GLM-4: byte-level BPE in tiktoken's file format, read without its network."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Protocol

from glmserve.errors import CheckpointError, InvalidRequestError
from glmserve.model_config.reader import read_whole
from glmserve.text.added_token_splitter import AddedTokenSplitter, PythonSplitter
from glmserve.text.added_tokens import LARGEST_ID, AddedToken, check_additions, read_added_tokens
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


class Encoder(Protocol):
    """Encodes text without added tokens."""

    def encode_ordinary(self, text: str) -> list[int]:
        """Token ids of a text."""
        ...


class TiktokenTokenizer(Tokenizer):
    """A tokenizer of ranks (bytes -> id) and added tokens. It adds no dummy blank to a text.

    Args:
        path: of the file, for errors.
        ranks: id by the bytes of a token.
        pattern: regex of the words within which tokens are merged.
        added: all added tokens. GLM-4's own are special, whatever a file says.
        splitter: how added tokens are found in a text.
        encoder: encodes a text without added tokens; None: tiktoken, by the ranks.

    Raises:
        CheckpointError: tokens are missing or numbered twice.
    """

    def __init__(
        self,
        path: Path,
        ranks: dict[bytes, int],
        pattern: str,
        added: Sequence[AddedToken],
        splitter: type[AddedTokenSplitter] = PythonSplitter,
        encoder: Encoder | None = None,
    ) -> None:
        added = [replace(t, special=t.special or t.content in GLM4_SPECIAL_TOKENS) for t in added]
        special_ids = {token.content: token.id for token in added if token.special}
        _check_vocabulary(path, ranks, special_ids)
        vocab_size = max(ranks.values()) + 1
        if vocab_size > LARGEST_ID:
            raise CheckpointError(f"{path}: the id {vocab_size - 1} is too large for a vocabulary")
        self._pieces = {rank: piece for piece, rank in ranks.items()}
        super().__init__(
            vocab_size=vocab_size,
            special_ids={},
            eos_id=special_ids["<|endoftext|>"],
            prompt_prefix=(special_ids["[gMASK]"], special_ids["<sop>"]),
            never_sampled=frozenset(range(vocab_size)).difference(self._pieces),
            added_tokens=check_additions(path.parent, added, {}, self._pieces.get),
            splitter=splitter,
        )
        self._encoder = encoder or _by_ranks(path, ranks, pattern)

    @classmethod
    def from_file(cls, path: Path) -> TiktokenTokenizer:
        """Read a `tokenizer.model` of base64 lines, and the added tokens beside it.

        If these have none of GLM-4's special tokens, the special tokens follow the last rank.

        Raises:
            CheckpointError: a line is damaged, or tokens are missing or numbered twice.
        """
        ranks = _read_ranks(path)
        added = read_added_tokens(path.parent)
        if not any(token.content in GLM4_SPECIAL_TOKENS for token in added):
            names = enumerate(GLM4_SPECIAL_TOKENS, len(ranks))
            added = [*(AddedToken(i, name, special=True) for i, name in names), *added]
        return cls(path, ranks, GLM4_PATTERN, added)

    def _encode(self, text: str) -> list[int]:
        if len(text) > _LONGEST_BLANK_RUN and _TOO_LONG_BLANK_RUN.search(text):
            raise InvalidRequestError(
                f"the text has a run of more than {_LONGEST_BLANK_RUN} blanks, "
                "which this model's tokenizer cannot take"
            )
        return self._encoder.encode_ordinary(text)

    def _piece_bytes(self, token_id: int) -> bytes:
        return self._pieces.get(token_id, b"")


def _by_ranks(path: Path, ranks: dict[bytes, int], pattern: str) -> Encoder:
    """tiktoken's encoder, which merges the pair with the lowest resulting rank.

    Raises:
        CheckpointError: it does not take the pattern.
    """
    from tiktoken import Encoding

    try:
        return Encoding("glm4", pat_str=pattern, mergeable_ranks=ranks, special_tokens={})
    except ValueError as error:
        raise CheckpointError(f"{path}: cannot be used as a tokenizer: {error}") from None


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
