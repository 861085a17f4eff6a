"""Chooses one token per row of logits.

The order of operations, as in transformers and vLLM:

    repetition penalty -> presence and frequency penalty -> logit bias -> temperature
    -> top_k -> top_p -> min_p -> draw (see ops/sampling/draw.py)

* Ids from `vocab_limit` on are never chosen.
* repetition_penalty divides positive and multiplies negative logits of every token that occurs in
  prompt or output; presence_penalty and frequency_penalty (OpenAI) count the output only.
* top_k keeps the k most likely; top_p the fewest most likely ones of those that have at least
  top_p of their probability; min_p those at least min_p times as likely as the most likely.
  Equally likely tokens count as more likely the lower their id, so that top_k = 1 is greedy.

Rows are independent: the result of a row does not depend on the other rows of the step.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from glmserve.contract.step import INVALID_TOKEN_ID, SamplingInput
from glmserve.ops.base import AnyOps
from glmserve.ops.sampling.gumbel import Float32Array


def sample(
    logits: Tensor, inputs: Sequence[SamplingInput], ops: AnyOps, vocab_limit: int | None
) -> list[int]:
    """Choose one token id for each row.

    Args:
        logits: float32 [S, V]; may be overwritten.
        inputs: how to choose, for each row.
        ops: computes the argmax and the draw.
        vocab_limit: ids from here on are never chosen; None: no limit.

    Returns:
        Token ids [S]; INVALID_TOKEN_ID for a row that is not finite: it holds a NaN or +inf, or
        only -inf.
    """
    logits = logits[:, :vocab_limit]
    greedy = [i for i, s in enumerate(inputs) if s.sampling.is_plain_greedy]
    others = [i for i, s in enumerate(inputs) if not s.sampling.is_plain_greedy]
    tokens = [INVALID_TOKEN_ID] * len(inputs)
    if greedy:
        rows = logits if not others else logits[greedy]
        for i, token, value in zip(greedy, *ops.argmax(rows), strict=True):
            tokens[i] = token if math.isfinite(value) else INVALID_TOKEN_ID
    if others:
        host = _to_host(logits)
        for i in others:
            _penalise(host[i], inputs[i])
            _bias(host[i], inputs[i].sampling.logit_bias)
        drawn = [i for i in others if not inputs[i].sampling.is_greedy]
        for i in set(others).difference(drawn):
            best = int(host[i].argmax())  # stops at the first NaN
            tokens[i] = best if np.isfinite(host[i, best]) else INVALID_TOKEN_ID
        for i, token in zip(drawn, ops.draw(host, drawn, [inputs[i] for i in drawn]), strict=True):
            tokens[i] = token
    return tokens


def _to_host(rows: Tensor) -> Float32Array:
    array: Float32Array = rows.cpu().numpy()
    return array


def _penalise(logits: Float32Array, s: SamplingInput) -> None:
    history, sampling = np.frombuffer(s.history, dtype=np.int32), s.sampling
    if sampling.repetition_penalty != 1.0:
        seen = _within(np.unique(history), len(logits))
        values = logits[seen]
        penalty = np.float32(sampling.repetition_penalty)
        logits[seen] = np.where(values > 0, values / penalty, values * penalty)
    if sampling.penalises_output:
        ids, counts = np.unique(history[s.prompt_length :], return_counts=True)
        known = (ids >= 0) & (ids < len(logits))
        logits[ids[known]] -= sampling.presence_penalty + sampling.frequency_penalty * counts[known]


def _within(ids: NDArray[np.int32], limit: int) -> NDArray[np.int32]:
    return ids[(ids >= 0) & (ids < limit)]


def _bias(logits: Float32Array, bias: dict[int, float]) -> None:
    for token, value in bias.items():
        if 0 <= token < len(logits):
            logits[token] += value
