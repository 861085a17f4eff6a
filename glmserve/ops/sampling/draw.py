"""Draws from one row of logits by temperature, top_k, top_p and min_p, in numpy: the reference.

`runner/sampler.py` defines these parameters.
"""

from __future__ import annotations

import numpy as np

from glmserve.contract.sampling import Sampling
from glmserve.contract.step import INVALID_TOKEN_ID
from glmserve.ops.sampling.gumbel import Float32Array, IdArray, draw

_ROUNDING = 0.999
"""Tolerance when a float32 weight is compared with a float64 bound."""

_BLOCKS_PER_KEPT = 4

_SORTED_AT_ONCE = 512


def draw_row(logits: Float32Array, noise_key: int, sampling: Sampling) -> int:
    """Draw a token id from one row of logits.

    Args:
        logits: [V], penalties and biases included.
        noise_key: see SamplingInput.
        sampling: its temperature is more than 0.

    Returns:
        A token id; INVALID_TOKEN_ID if the largest logit is not finite.
    """
    best = int(logits.argmax())  # stops at the first NaN
    if not np.isfinite(logits[best]):
        return INVALID_TOKEN_ID
    scaled = (logits - logits[best]) / np.float32(sampling.temperature)
    weights = np.exp(scaled)  # 1 for the most likely
    ids = np.arange(len(weights))
    if sampling.top_k > 0 or sampling.top_p < 1.0:
        ids = _most_likely(weights, sampling.top_k, sampling.top_p)
        weights = weights[ids]
    if sampling.min_p > 0.0:
        weights[weights < sampling.min_p] = 0.0
    return draw(weights, ids, noise_key)


def _most_likely(weights: Float32Array, top_k: int, top_p: float) -> IdArray:
    """Ids of the `weights` [V] that top_k and then top_p keep, ascending."""
    if not 0 < top_k < len(weights):
        return nucleus(weights, top_p)
    ids = _top_k(weights, top_k)
    return ids[nucleus(weights[ids], top_p)] if top_p < 1.0 else ids


def _top_k(weights: Float32Array, top_k: int) -> IdArray:
    """Indices of the top_k largest of [n], ascending; of equals the first ones."""
    candidates = np.flatnonzero(weights >= _top_k_bound(weights, top_k))
    order = np.argsort(-weights[candidates], kind="stable")
    return np.sort(candidates[order[:top_k]])


def _top_k_bound(weights: Float32Array, top_k: int) -> np.float32:
    """A value that at least top_k of [n] reach, and not many more.

    Cut into at least top_k blocks, the top_k largest of their maxima are top_k entries.
    """
    width = max(1, len(weights) // (_BLOCKS_PER_KEPT * top_k))
    whole = len(weights) // width * width
    maxima = weights[:whole].reshape(-1, width).max(axis=1)
    bound: np.float32 = np.partition(maxima, -top_k)[-top_k]
    return bound


def nucleus(weights: Float32Array, top_p: float) -> IdArray:
    """Indices of the fewest largest of [n] that have top_p of their sum, ascending.

    Quickselect by weight: what lies above a pivot is kept whole or contains the whole answer, and
    only the rest is looked at again; a small rest is sorted.
    """
    total = weights.sum(dtype=np.float64)
    goal = top_p * total
    # n entries of less than 1/n of what is not kept are all among that.
    rest = np.flatnonzero(weights >= (1.0 - top_p) * total / len(weights) * _ROUNDING)
    kept = np.zeros(len(weights), dtype=np.bool_)
    before = 0.0  # weight of what is kept already
    while len(rest) > _SORTED_AT_ONCE:
        values = weights[rest]
        above = values > values.mean()
        if above.all() or not above.any():  # all are equal, up to the rounding of the mean
            break
        weight = values[above].sum(dtype=np.float64)
        if before + weight >= goal:
            rest = rest[above]
        else:
            kept[rest[above]] = True
            before += weight
            rest = rest[~above]
    rest = rest[np.argsort(-weights[rest], kind="stable")]
    cdf = before + np.cumsum(weights[rest], dtype=np.float64)
    # Kept while those before it have less than top_p; so always the first.
    kept[rest[: 1 + int(np.searchsorted(cdf, goal, side="left"))]] = True
    return np.flatnonzero(kept)
