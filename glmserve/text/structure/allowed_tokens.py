"""Text of chosen tokens alone."""

from __future__ import annotations

from collections.abc import Iterable

from glmserve.text.structure.vocabulary import packed_bits


class AllowedTokens:
    """A TokenConstraint that allows the same ids at each place. It has no state, so requests may
    share it.

    Args:
        token_ids: less than `vocab_size`. An end token ends the text only if it is among them.
        vocab_size: of the tokenizer.
    """

    is_finished = False

    def __init__(self, token_ids: Iterable[int], vocab_size: int) -> None:
        self._mask = packed_bits(token_ids, vocab_size)[: (vocab_size + 7) // 8]

    def allowed(self) -> bytes:
        return self._mask

    def accept(self, token_id: int) -> None:
        """Nothing changes."""
