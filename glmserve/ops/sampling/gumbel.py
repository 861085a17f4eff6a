"""Draws a token with given odds from counter-based random numbers, by the Gumbel-max trick.

The index with the largest log(weight) + noise is drawn. The noise of an index is a hash of the
token's key and the index, transformed to the Gumbel distribution. So the draw is a function of
weights and key. Rounding errors in the weights, which differ from batch to batch, change it only if
the two best indices are that close: about once in a million tokens. (Inverting the CDF would be
simpler, but every boundary between two likely tokens is sensitive to rounding errors.)

Noise for a whole vocabulary would take longer than its softmax. So first a block of ids is drawn by
the sums of the weights, then an id within the block. The odds are the same, for some 500 hashes.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Float32Array = NDArray[np.float32]
Float64Array = NDArray[np.float64]
IdArray = NDArray[np.int64]

_BLOCK_BITS = 8
_TOKENS = 2**32
"""Noise index of token 0. Blocks use the indices from 0 on, and no noise is used twice."""


def draw(weights: Float32Array, ids: IdArray, key: int) -> int:
    """Draw one of `ids`.

    Args:
        weights: [n] >= 0, not all 0: the odds.
        ids: [n], ascending. The noise of an id does not depend on the other ids.
        key: 64 bits, see SamplingInput.noise_key.
    """
    blocks = ids >> _BLOCK_BITS
    starts = np.flatnonzero(np.diff(blocks, prepend=-1))
    sums = np.add.reduceat(weights, starts, dtype=np.float64)
    block = _largest(sums, blocks[starts], key)
    end = starts[block + 1] if block + 1 < len(starts) else len(ids)
    within = slice(int(starts[block]), int(end))
    chosen = _largest(weights[within].astype(np.float64), ids[within] + _TOKENS, key)
    return int(ids[within][chosen])


def gumbel_noise(indices: IdArray, key: int) -> Float64Array:
    """Standard Gumbel numbers for `indices` [n], from SplitMix64 at `key` + index * gamma.

    scheduler/random.py has the source of the hash.
    """
    z = indices.astype(np.uint64) * np.uint64(0x9E37_79B9_7F4A_7C15) + np.uint64(key)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58_476D_1CE4_E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D0_49BB_1331_11EB)
    z ^= z >> np.uint64(31)
    uniform = ((z >> np.uint64(12)).astype(np.float64) + 0.5) * 2.0**-52  # in (0, 1)
    noise: Float64Array = -np.log(-np.log(uniform))
    return noise


def _largest(weights: Float64Array, indices: IdArray, key: int) -> int:
    """Position of the largest log(weight) + noise."""
    with np.errstate(divide="ignore"):  # a weight of 0 never wins
        return int(np.argmax(np.log(weights) + gumbel_noise(indices, key)))
