"""Changes of single logits by penalties, biases and bans, as arrays for a device.

The rules are those of sampler.py and token_masks.py. Most of the work is done for all rows at once,
with row * vocab_size + id as the key of a logit: there may be hundreds of rows, and a dozen numpy
calls for each row would take longer than the model.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from glmserve.contract.step import SamplingInput

_NOTHING = np.zeros(0, dtype=np.int64)

_SORT_COST = 32
"""Sorting one id takes as long as passing over so many counters of a vocabulary."""


class _Counts(NamedTuple):
    """How often ids occur in the histories of rows."""

    keys: NDArray[np.int64]
    """[n], ascending, each once."""
    counts: NDArray[np.int64]
    """[n]"""


class Adjustments(NamedTuple):
    """E entries, one for each logit that changes: arguments of the adjust_logits kernel."""

    rows: NDArray[np.int32]
    """[E]"""
    ids: NDArray[np.int32]
    """[E]: token ids."""
    repetition: NDArray[np.float32]
    """[E]: repetition penalty; 1: none."""
    subtract: NDArray[np.float32]
    """[E]: presence penalty + frequency penalty * occurrences."""
    bias: NDArray[np.float32]
    """[E]: what is added; -inf for banned ids."""


def gather_adjustments(
    inputs: Sequence[SamplingInput], banned: Sequence[Sequence[int]], vocab_size: int
) -> Adjustments | None:
    """The changes of all rows.

    Args:
        inputs: for each row.
        banned: for each row, ids within the vocabulary that become -inf.

    Returns:
        None if no logit changes.
    """
    if not any(banned) and not any(s.sampling.adjusts_logits for s in inputs):
        return None
    repeating = (
        (row, _tokens(s)) for row, s in enumerate(inputs) if s.sampling.repetition_penalty != 1.0
    )
    counting = (
        (row, _tokens(s)[s.prompt_length :])
        for row, s in enumerate(inputs)
        if s.sampling.penalises_output
    )
    seen, _ = _count(repeating, vocab_size)
    counted, counts = _count(counting, vocab_size)
    biases = _biases(inputs, banned, vocab_size)
    biased = np.array(list(biases), dtype=np.int64)
    keys = np.sort(np.concatenate((seen, counted, biased)), kind="stable")  # merges what is sorted
    if not len(keys):
        return None
    keys = keys[np.diff(keys, prepend=-1) != 0]
    repetition = np.ones(len(keys), dtype=np.float32)
    penalties = np.array([s.sampling.repetition_penalty for s in inputs], dtype=np.float32)
    repetition[_indices(seen, keys)] = penalties[seen // vocab_size]
    subtract = np.zeros(len(keys), dtype=np.float32)
    presence, frequency = (
        np.array([getattr(s.sampling, name) for s in inputs])[counted // vocab_size]
        for name in ("presence_penalty", "frequency_penalty")
    )
    subtract[_indices(counted, keys)] = presence + frequency * counts
    bias = np.zeros(len(keys), dtype=np.float32)
    bias[_indices(biased, keys)] = list(biases.values())
    rows, ids = (part.astype(np.int32) for part in np.divmod(keys, vocab_size))
    return Adjustments(rows, ids, repetition, subtract, bias)


def _indices(part: NDArray[np.int64], keys: NDArray[np.int64]) -> NDArray[np.intp] | slice:
    """Index in `keys` of each element of `part`; both are ascending."""
    return slice(None) if len(part) == len(keys) else np.searchsorted(keys, part)


def _tokens(s: SamplingInput) -> NDArray[np.int32]:
    return np.frombuffer(s.history, dtype=np.int32)


def _count(ids_by_row: Iterable[tuple[int, NDArray[np.int32]]], vocab_size: int) -> _Counts:
    """Count the ids of each row; ids outside the vocabulary are left out."""
    keys, counts = [_NOTHING], [_NOTHING]
    for row, ids in ids_by_row:
        known = ids[(ids >= 0) & (ids < vocab_size)]
        if len(known) < vocab_size // _SORT_COST:
            different, count = np.unique(known, return_counts=True)
        else:
            every = np.bincount(known, minlength=vocab_size)
            different = np.flatnonzero(every > 0).astype(np.int32)
            count = every[different]
        keys.append(different + np.int64(row * vocab_size))
        counts.append(count)
    return _Counts(np.concatenate(keys), np.concatenate(counts))


def _biases(
    inputs: Sequence[SamplingInput], banned: Sequence[Sequence[int]], vocab_size: int
) -> dict[int, float]:
    """Key to what is added to the logit, ascending by key."""
    biases = {
        row * vocab_size + token: value
        for row, s in enumerate(inputs)
        for token, value in s.sampling.logit_bias.items()
        if 0 <= token < vocab_size
    }
    barred = (row * vocab_size + token for row, ids in enumerate(banned) for token in ids)
    return dict(sorted((biases | dict.fromkeys(barred, float("-inf"))).items()))
