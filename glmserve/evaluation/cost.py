"""How far one reading of a text is from another."""

from __future__ import annotations

import math
from dataclasses import dataclass

from glmserve.contract.step import Logprobs
from glmserve.evaluation.scoring import Reading

_LEAST_REST = 1e-6
"""Less probability than this is the rounding error of a sum in float32."""


@dataclass(frozen=True)
class Cost:
    """Means over all tokens that were predicted."""

    change: float
    """Of the token's log-probability, in nats, without its sign."""
    divergence: float
    """Kullback-Leibler divergence of what comes next, in nats: at least this."""
    other_best: float
    """Share of the places where another token is the most likely."""


def compare(found: Reading, exact: Reading) -> Cost:
    """What `found` has lost of `exact`, which read the same windows."""
    pairs = list(zip(found.scores, exact.scores, strict=True))
    return Cost(
        sum(abs(f.logprob - e.logprob) for f, e in pairs) / len(pairs),
        sum(divergence(f, e) for f, e in pairs) / len(pairs),
        sum(f.top_ids[0] != e.top_ids[0] for f, e in pairs) / len(pairs),
    )


def divergence(found: Logprobs, exact: Logprobs) -> float:
    """Sum of p log(p / q) over the tokens that both report; all others count as one.

    To join tokens can only make a divergence less, so the true one is at least this.
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
    rest_p, rest_q = max(rest_p, _LEAST_REST), max(rest_q, _LEAST_REST)
    return total + rest_p * math.log(rest_p / rest_q)
