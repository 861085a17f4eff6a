"""The Gumbel-max trick: the largest log(weight) + noise, where noise is a hash of key and index."""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def gumbel_noise(key, indices):
    """Standard Gumbel numbers, float64, from SplitMix64 at `key` + index * gamma.

    Args:
        key: uint64.
        indices: int64.
    """
    z = indices.to(tl.uint64) * 0x9E3779B97F4A7C15 + key
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9
    z = (z ^ (z >> 27)) * 0x94D049BB133111EB
    z = z ^ (z >> 31)
    uniform = ((z >> 12).to(tl.float64) + 0.5) * 2.220446049250313e-16  # 2^-52: in (0, 1)
    return -tl.log(-tl.log(uniform))


@triton.jit
def draw(weights, indices, key):
    """Position drawn with odds `weights` float64 [n] >= 0; a weight of 0 is never drawn.

    `indices` int64 [n] are the noise indices of the positions.
    """
    scores = tl.log(tl.where(weights > 0, weights, 1.0)) + gumbel_noise(key, indices)
    return tl.argmax(tl.where(weights > 0, scores, float("-inf")), axis=0)
