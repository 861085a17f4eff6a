"""Sets of token ids as bits, 32 to a word: bit t % 32 of word t // 32 stands for id t."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

Words = NDArray[np.int32]


def bits_of_range(size: int, vocab_size: int, without: Iterable[int] = ()) -> Words:
    """The ids below `size` except those in `without`: [ceil(vocab_size / 32)]."""
    bits = np.zeros(count_words(vocab_size) * 32, dtype=np.bool_)
    bits[:size] = True
    bits[list(without)] = False
    return np.packbits(bits, bitorder="little").view(np.int32)


def count_words(vocab_size: int) -> int:
    """Number of words with a bit for every id."""
    return -(-vocab_size // 32)


def bits_of_mask(mask: bytes, vocab_size: int) -> Words:
    """A mask (see TokenMasks) as words. Ids beyond its end are not in the set."""
    size = min(len(mask), -(-vocab_size // 8))
    padded = np.zeros(count_words(vocab_size) * 4, dtype=np.uint8)
    padded[:size] = np.frombuffer(mask, dtype=np.uint8, count=size)
    return padded.view(np.int32)


def ban(bits: Words, ids: Sequence[int], everything: Words) -> Words:
    """`bits` without `ids`; `bits` unchanged if no id of `everything` would be left."""
    others = bits.copy()
    by_eight = others.view(np.uint8)
    for token in ids:
        by_eight[token >> 3] &= ~np.uint8(1 << (token & 7))
    return others if (others & everything).any() else bits
