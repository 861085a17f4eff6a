"""Compares two readings of a text."""

from __future__ import annotations

import math
from dataclasses import dataclass

from glmserve.contract.step import Logprobs
from glmserve.evaluation.scoring import Reading

_MIN_REST = 1e-6
"""Smallest remaining probability; a sum in float32 has a rounding error of about this size."""


@dataclass(frozen=True)
class Cost:
    """Means over all predicted tokens."""

    change: float
    """Absolute difference of the token's log-probability, nats."""
    divergence: float
    """Lower bound of the Kullback-Leibler divergence of the next token's distribution, nats."""
    other_best: float
    """Share of positions with another most likely token, 0 to 1."""


def compare(found: Reading, exact: Reading) -> Cost:
    """The cost of `found` compared with `exact`. Both must have read the same windows."""
    pairs = list(zip(found.scores, exact.scores, strict=True))
    return Cost(
        sum(abs(f.logprob - e.logprob) for f, e in pairs) / len(pairs),
        sum(divergence(f, e) for f, e in pairs) / len(pairs),
        sum(f.top_ids[0] != e.top_ids[0] for f, e in pairs) / len(pairs),
    )


def divergence(found: Logprobs, exact: Logprobs) -> float:
    """Lower bound of the Kullback-Leibler divergence of `exact` (p) from `found` (q), in nats.

    It is the sum of p log(p / q) over the tokens that both report. All other tokens are merged into
    one. Merging tokens can only reduce a divergence (log sum inequality).
    """
    q_of = dict(zip(found.top_ids, found.top_logprobs, strict=True))
    total, rest_p, rest_q = 0.0, 1.0, 1.0
    for token, log_p in zip(exact.top_ids, exact.top_logprobs, strict=True):
        log_q = q_of.get(token)
        if log_q is None or math.isinf(log_p) or math.isinf(log_q):
            continue
        p = math.exp(log_p)
        total += p * (log_p - log_q)
        rest_p -= p
        rest_q -= math.exp(log_q)
    rest_p, rest_q = max(rest_p, _MIN_REST), max(rest_q, _MIN_REST)
    return total + rest_p * math.log(rest_p / rest_q)
