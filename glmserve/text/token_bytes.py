"""The table of each token's bytes, which decoding reads."""

from __future__ import annotations

import codecs
from collections.abc import Callable
from enum import Enum


class LeadingBlanks(Enum):
    """How decoding treats blanks at the beginning of a text.

    SentencePiece adds a dummy blank to every text that it encodes, and its decoder removes one
    again. With `remove_extra_whitespaces` it removes all of them.
    """

    KEEP = "keep"
    DROP_ONE = "drop one"
    DROP_ALL = "drop all"


class TokenBytes(dict[int, bytes]):
    """Bytes by token id, computed on first use, so that start-up is not slower."""

    def __init__(self, compute: Callable[[int], bytes]) -> None:
        super().__init__()
        self._compute = compute

    def __missing__(self, token_id: int) -> bytes:
        data = self[token_id] = self._compute(token_id)
        return data


ONE_PER_BYTE = "glmserve.one_replacement_per_byte"
"""Error handler that decodes like SentencePiece: one U+FFFD for each invalid byte. Python's
"replace" gives one for a whole truncated character."""


def _replace_each_byte(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeDecodeError):
        raise error
    return "\ufffd" * (error.end - error.start), error.end


codecs.register_error(ONE_PER_BYTE, _replace_each_byte)
