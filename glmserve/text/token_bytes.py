"""Token ids as bytes: the table that every decode reads."""

from __future__ import annotations

import codecs
from collections.abc import Callable
from enum import Enum


class LeadingBlanks(Enum):
    """What happens to the blank that opens the first piece of a text.

    SentencePiece puts a dummy blank in front of every text it encodes, so its decoder takes one
    away again; with `remove_extra_whitespaces` it takes all of them.
    """

    KEEP = "keep"
    DROP_ONE = "drop one"
    DROP_ALL = "drop all"


class TokenBytes(dict[int, bytes]):
    """Id -> bytes, each computed on first use: no cost at start-up, a plain dict look-up after."""

    def __init__(self, compute: Callable[[int], bytes]) -> None:
        super().__init__()
        self._compute = compute

    def __missing__(self, token_id: int) -> bytes:
        data = self[token_id] = self._compute(token_id)
        return data


ONE_PER_BYTE = "glmserve.one_replacement_per_byte"
"""Decode errors as SentencePiece reports them: one U+FFFD for each stray byte, where Python's own
"replace" gives one for a whole truncated character."""


def _replace_each_byte(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeDecodeError):
        raise error
    return "\ufffd" * (error.end - error.start), error.end


codecs.register_error(ONE_PER_BYTE, _replace_each_byte)
