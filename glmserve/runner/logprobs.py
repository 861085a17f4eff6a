"""Log-probabilities of chosen and of given tokens.

They are logarithms of the model's softmax over its whole vocabulary, before penalties, temperature
and masks. So they equal those of other implementations of the model.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from glmserve.contract.step import Logprobs, ScoreInput

_ROWS_AT_ONCE = 64
"""Logits of a whole prompt could take gigabytes: 2048 tokens of GLM-4's vocabulary take 1.2 GB."""


class TokenScores(NamedTuple):
    """Log-probabilities of n tokens, on the device or the host."""

    own: Tensor
    """[n]: of the tokens themselves."""
    top_ids: Tensor
    """int64 [n, k]: the most likely ids that can be sampled, by descending log-probability."""
    top: Tensor
    """[n, k]"""

    def as_logprobs(self, counts: Sequence[int]) -> list[Logprobs]:
        """As plain data, with `counts[i]` <= k alternatives for token i. Waits for the device."""
        rows = zip(self.own.tolist(), self.top_ids.tolist(), self.top.tolist(), counts, strict=True)
        return [Logprobs(own, ids[:n], top[:n]) for own, ids, top, n in rows]


class LogprobReader:
    """Computes log-probabilities over one vocabulary.

    Args:
        vocab_limit: ids from here on are no alternatives; None: no limit.
        never_sampled: int64 [n], further ids that are no alternatives.
    """

    def __init__(self, vocab_limit: int | None, never_sampled: Tensor) -> None:
        self._vocab_limit = vocab_limit
        self._never_sampled = never_sampled

    def read(self, log_probs: Tensor, token_ids: Tensor, count: int) -> TokenScores:
        """Log-probabilities of one token per row.

        Args:
            log_probs: float32 [n, V]; overwritten.
            token_ids: int64 [n]
            count: how many alternatives.
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
        """Log-probabilities of given tokens.

        Args:
            hidden: last hidden states [n, H]; row i predicts target i. n >= the number of targets.
            score: the targets.
            to_logits: the output layer of the model, [m, H] to [m, V].
        """
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
