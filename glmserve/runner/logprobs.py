"""Reports log-probabilities of chosen and of given tokens.

They are those of the model's softmax over its whole vocabulary, before penalties, temperature and
masks change anything: what other implementations of the model give for the same tokens.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from glmserve.contract.step import Logprobs, ScoreInput

_ROWS_AT_ONCE = 64
"""Logits of a long prompt would take gigabytes: 2048 tokens of GLM-4's vocabulary are 1.2 GB."""


class TokenScores(NamedTuple):
    """Log-probabilities of n tokens, on the device or the host."""

    own: Tensor
    """[n]: of the token in question."""
    top_ids: Tensor
    """int64 [n, k]: most likely ids that can be sampled, falling."""
    top: Tensor
    """[n, k]"""

    def as_logprobs(self, counts: Sequence[int]) -> list[Logprobs]:
        """`counts` alternatives of each, at most k. Waits for the device."""
        rows = zip(self.own.tolist(), self.top_ids.tolist(), self.top.tolist(), counts, strict=True)
        return [Logprobs(own, ids[:n], top[:n]) for own, ids, top, n in rows]


class LogprobReader:
    """Knows which ids may be shown as alternatives.

    Args:
        vocab_limit: ids from here on are never shown; None shows all.
        never_sampled: further ids that are not, int64.
    """

    def __init__(self, vocab_limit: int | None, never_sampled: Tensor) -> None:
        self._vocab_limit = vocab_limit
        self._never_sampled = never_sampled

    def read(self, log_probs: Tensor, token_ids: Tensor, count: int) -> TokenScores:
        """Of one token per row of `log_probs` float32 [n, V], with `count` alternatives.

        Overwrites `log_probs`.
        """
        own = log_probs.gather(1, token_ids.clamp(min=0)[:, None]).flatten()
        shown = log_probs[:, : self._vocab_limit]
        if len(self._never_sampled):
            shown.index_fill_(1, self._never_sampled, float("-inf"))
        values, indices = shown.topk(min(count, shown.shape[1]), dim=1)
        return TokenScores(own, indices, values)

    def score(
        self, hidden: Tensor, score: ScoreInput, to_logits: Callable[[Tensor], Tensor]
    ) -> TokenScores:
        """Of the tokens that follow the last hidden states [n, H], n >= the number of targets."""
        if not score.targets:
            nothing = hidden.new_empty(0, 0)
            return TokenScores(nothing.flatten(), nothing.long(), nothing)
        parts = []
        targets = torch.tensor(score.targets, dtype=torch.int64)
        targets = targets.to(hidden.device, non_blocking=True)
        for start in range(0, len(targets), _ROWS_AT_ONCE):
            ids = targets[start : start + _ROWS_AT_ONCE]
            log_probs = torch.log_softmax(to_logits(hidden[start : start + len(ids)]), dim=-1)
            parts.append(self.read(log_probs, ids, score.top_logprobs))
        return TokenScores(*map(torch.cat, zip(*parts, strict=True)))
