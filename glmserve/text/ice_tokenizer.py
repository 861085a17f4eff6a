"""The tokenizer of ChatGLM-6B (v1): the "ice" SentencePiece model with its own whitespace."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from glmserve.errors import CheckpointError
from glmserve.text.added_tokens import AddedToken
from glmserve.text.sentencepiece_tokenizer import (
    BLANK,
    SentencePieceBase,
    additions,
    control_ids,
    load_processor,
)

if TYPE_CHECKING:
    from sentencepiece import SentencePieceProcessor

_MAX_BLANKS = 80
"""Longest run of blanks that has a token of its own (max_blank_length of the remote code)."""

_BLANK_RUN = re.compile(f" {{2,{_MAX_BLANKS}}}")


class IceTokenizer(SentencePieceBase):
    """Writes whitespace as pieces: `<n>`, `<|tab|>` and `<|blank_2|>` to `<|blank_80|>`.

    It is lossy: the model normalises with NFKC and drops extra blanks. The reference replaces the
    names by whitespace in the decoded text. Here the tokens themselves decode to whitespace, so a
    text that spells `<n>` with other pieces stays unchanged.

    A prompt ends with [gMASK] <sop>; those of later models begin with them.
    """

    def __init__(
        self,
        processor: SentencePieceProcessor,
        special_ids: Mapping[str, int],
        added_tokens: Sequence[AddedToken] = (),
    ) -> None:
        super().__init__(
            processor,
            vocab_size=processor.get_piece_size(),
            special_ids=special_ids,
            eos_id=special_ids["<eop>"],
            prompt_suffix=(special_ids["[gMASK]"], special_ids["<sop>"]),
            never_sampled=frozenset(
                token_id for name, token_id in special_ids.items() if name.startswith("<unused")
            ),
            added_tokens=added_tokens,
        )
        self._whitespace = {
            processor.piece_to_id(name): text.encode() for name, text in _whitespace_names().items()
        }

    @classmethod
    def from_file(cls, path: Path) -> IceTokenizer:
        """Read an `ice_text.model`.

        Raises:
            CheckpointError: it is not ChatGLM-6B's SentencePiece model.
        """
        processor = load_processor(path)
        for name in ("[gMASK]", "<sop>", "<eop>", "<n>", "<|tab|>", f"<|blank_{_MAX_BLANKS}|>"):
            if processor.is_unknown(processor.piece_to_id(name)):
                raise CheckpointError(f"{path}: has no piece {name}: not the model of ChatGLM-6B")
        special_ids = control_ids(path, processor)
        added = additions(path.parent, processor, special_ids)
        whitespace = _whitespace_names()
        return cls(processor, special_ids, [t for t in added if t.content not in whitespace])

    def _encode(self, text: str) -> list[int]:
        text = text.replace("\n", "<n>").replace("\t", "<|tab|>")
        return super()._encode(_BLANK_RUN.sub(lambda run: f"<|blank_{len(run[0])}|>", text))

    def _encode_before(self, text: str) -> list[int]:
        """Keeps one blank at the end, which the model's normaliser drops. A run of blanks is a
        piece, and never dropped."""
        ids = self._encode(text)
        is_dropped = text.endswith(" ") and not text.endswith("  ")
        return [*ids, self._processor.piece_to_id(BLANK)] if is_dropped else ids

    def _piece_bytes(self, token_id: int) -> bytes:
        whitespace = self._whitespace.get(token_id)
        return super()._piece_bytes(token_id) if whitespace is None else whitespace


def _whitespace_names() -> dict[str, str]:
    blanks = {f"<|blank_{length}|>": " " * length for length in range(2, _MAX_BLANKS + 1)}
    return {"<n>": "\n", "<|tab|>": "\t", **blanks}
