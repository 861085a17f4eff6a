"""Chooses one token per row of logits.

The order of operations, as in transformers and vLLM:

    repetition penalty -> presence and frequency penalty -> logit bias -> temperature
    -> top_k -> top_p -> min_p -> draw (see gumbel.py)

* Ids from `vocab_limit` on do not exist for any of this.
* repetition_penalty divides positive and multiplies negative logits of every token that occurs in
  prompt or output; presence_penalty and frequency_penalty (OpenAI) count the output only.
* top_k keeps the k most likely; top_p the fewest most likely ones of those that have at least
  top_p of their probability; min_p those at least min_p times as likely as the most likely.
  Equally likely tokens count as more likely the lower their id, so that top_k = 1 is greedy.

Every row is worked on by itself: what shares a step with it cannot change its result.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from glmserve.ops.base import Ops
from glmserve.runner.gumbel import Float32Array, IdArray, draw
from glmserve.step import NOT_A_NUMBER, SamplingInput

_GREEDY_BELOW = 1e-5
"""Temperatures below are greedy: dividing by them would only overflow."""

_ROUNDING = 0.999
"""Slack of a float32 weight that is compared with a float64 bound."""

_BLOCKS_PER_KEPT = 4

_SORTED_AT_ONCE = 512


def sample(
    logits: Tensor, inputs: Sequence[SamplingInput], ops: Ops, vocab_limit: int | None
) -> list[int]:
    """One token id per row of `logits` float32 [S, V]; NOT_A_NUMBER for a row that is not finite.

    A row is not finite when it holds a NaN or +inf, or nothing but -inf.
    """
    logits = logits[:, :vocab_limit]
    greedy = [i for i, s in enumerate(inputs) if _is_plain_greedy(s)]
    others = [i for i, s in enumerate(inputs) if not _is_plain_greedy(s)]
    tokens = [NOT_A_NUMBER] * len(inputs)
    if greedy:
        rows = logits if not others else logits[greedy]
        for i, token, value in zip(greedy, *ops.argmax(rows), strict=True):
            tokens[i] = token if math.isfinite(value) else NOT_A_NUMBER
    if others:
        rows = logits if not greedy else logits[others]
        for i, row in zip(others, _to_host(rows), strict=True):
            tokens[i] = sample_row(row, inputs[i])
    return tokens


def sample_row(logits: Float32Array, s: SamplingInput) -> int:
    """One token id for `logits` [V], or NOT_A_NUMBER. May overwrite `logits`."""
    if not np.isfinite(logits[logits.argmax()]):  # argmax stops at the first NaN
        return NOT_A_NUMBER
    _penalise(logits, s)
    _bias(logits, s.logit_bias)
    best = int(logits.argmax())
    if not np.isfinite(logits[best]):
        return NOT_A_NUMBER
    if s.temperature < _GREEDY_BELOW:
        return best
    scaled = (logits - logits[best]) / np.float32(s.temperature)
    weights = np.exp(scaled)  # 1 for the most likely
    ids = np.arange(len(weights))
    if s.top_k > 0 or s.top_p < 1.0:
        ids = _most_likely(weights, s.top_k, s.top_p)
        weights = weights[ids]
    if s.min_p > 0.0:
        weights[weights < s.min_p] = 0.0
    return draw(weights, ids, s.noise_key)


def _is_plain_greedy(s: SamplingInput) -> bool:
    return (
        s.temperature == 0.0
        and not s.logit_bias
        and s.presence_penalty == 0.0
        and s.frequency_penalty == 0.0
        and s.repetition_penalty == 1.0
    )


def _to_host(rows: Tensor) -> Float32Array:
    array: Float32Array = rows.cpu().numpy()
    return array


def _penalise(logits: Float32Array, s: SamplingInput) -> None:
    history = np.frombuffer(s.history, dtype=np.int32)
    if s.repetition_penalty != 1.0:
        seen = _within(np.unique(history), len(logits))
        values = logits[seen]
        penalty = np.float32(s.repetition_penalty)
        logits[seen] = np.where(values > 0, values / penalty, values * penalty)
    if s.presence_penalty != 0.0 or s.frequency_penalty != 0.0:
        ids, counts = np.unique(history[s.prompt_length :], return_counts=True)
        known = (ids >= 0) & (ids < len(logits))
        logits[ids[known]] -= s.presence_penalty + s.frequency_penalty * counts[known]


def _within(ids: NDArray[np.int32], limit: int) -> NDArray[np.int32]:
    return ids[(ids >= 0) & (ids < limit)]


def _bias(logits: Float32Array, bias: dict[int, float]) -> None:
    for token, value in bias.items():
        if 0 <= token < len(logits):
            logits[token] += value


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
