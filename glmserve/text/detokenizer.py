"""Converts token ids to text incrementally."""

from __future__ import annotations

from codecs import utf_8_decode
from collections.abc import Sequence
from typing import TYPE_CHECKING

from glmserve.text.token_bytes import LeadingBlanks

if TYPE_CHECKING:
    from glmserve.text.tokenizer import Tokenizer


class IncrementalDetokenizer:
    """Text of a growing list of token ids, never half a character.

    A character may span several tokens, so bytes wait in `_pending` until the character is
    complete. The joined results equal `tokenizer.decode` of all ids. This runs for every token of
    every stream: it looks up each id in a table, and only pending bytes are decoded twice.

    Args:
        continues_text: other text comes first, so a leading blank belongs to the text.
    """

    __slots__ = ("_at_start", "_errors", "_pending", "_segment_ends", "_table", "_tokenizer")

    def __init__(
        self,
        tokenizer: Tokenizer,
        skip_special_tokens: bool = True,
        *,
        continues_text: bool = False,
    ) -> None:
        self._tokenizer = tokenizer
        self._table = tokenizer.byte_table(skip_special_tokens)
        self._errors = tokenizer.decode_errors
        keeps_blanks = continues_text or tokenizer.leading_blanks is LeadingBlanks.KEEP
        self._at_start = not keeps_blanks
        self._segment_ends = tokenizer.segment_ends
        self._pending = b""

    def push(self, token_ids: Sequence[int]) -> str:
        """The text that these ids complete."""
        if self._at_start or not self._segment_ends.isdisjoint(token_ids):
            data = self._first_bytes(token_ids)
        else:
            table = self._table
            if len(token_ids) == 1:
                data = table[token_ids[0]]
            else:
                data = b"".join([table[token_id] for token_id in token_ids])
        if self._pending:
            data = self._pending + data
        text, used = utf_8_decode(data, self._errors, False)
        self._pending = data[used:]
        return text

    def flush(self) -> str:
        """The rest at the end: an incomplete character, as replacement characters."""
        text, self._pending = self._pending.decode("utf-8", self._errors), b""
        return text

    def _first_bytes(self, token_ids: Sequence[int]) -> bytes:
        """Bytes of ids at the beginning of a text or of a segment, without the tokenizer's own
        leading blank."""
        parts = []
        for token_id in token_ids:
            data = self._table[token_id]
            if self._at_start and data:
                if self._tokenizer.opens_with_blank(token_id):
                    data = data[1:]
                    drop_all = self._tokenizer.leading_blanks is LeadingBlanks.DROP_ALL
                    self._at_start = drop_all and not data
                else:
                    self._at_start = False
            if token_id in self._segment_ends:
                self._at_start = True
            parts.append(data)
        return b"".join(parts)
