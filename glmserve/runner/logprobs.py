"""Reports log-probabilities of chosen and of given tokens.

They are those of the model's softmax over its whole vocabulary, before penalties, temperature and
masks change anything: what other implementations of the model give for the same tokens.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from glmserve.step import Logprobs, ScoreInput

_ROWS_AT_ONCE = 64
"""Logits of a long prompt would take gigabytes: 2048 tokens of GLM-4's vocabulary are 1.2 GB."""


class LogprobReader:
    """Knows which ids may be shown as alternatives.

    Args:
        vocab_limit: ids from here on are never shown; None shows all.
        never_sampled: further ids that are not, int64.
    """

    def __init__(self, vocab_limit: int | None, never_sampled: Tensor) -> None:
        self._vocab_limit = vocab_limit
        self._never_sampled = never_sampled

    def read(
        self, log_probs: Tensor, token_ids: Sequence[int], counts: Sequence[int]
    ) -> list[Logprobs]:
        """Of one token per row of `log_probs` float32 [n, V], with `counts` alternatives each.

        Overwrites `log_probs`.
        """
        ids = torch.tensor(token_ids, device=log_probs.device).long().clamp_(min=0)
        chosen = log_probs.gather(1, ids[:, None]).flatten().tolist()
        shown = log_probs[:, : self._vocab_limit]
        if len(self._never_sampled):
            shown.index_fill_(1, self._never_sampled, float("-inf"))
        values, indices = shown.topk(min(max(counts, default=0), shown.shape[1]), dim=1)
        rows = zip(chosen, indices.tolist(), values.tolist(), counts, strict=True)
        return [Logprobs(own, top_ids[:n], top[:n]) for own, top_ids, top, n in rows]

    def score(
        self, hidden: Tensor, score: ScoreInput, to_logits: Callable[[Tensor], Tensor]
    ) -> list[Logprobs]:
        """Of the tokens that follow the last hidden states [n, H], n >= the number of targets."""
        result: list[Logprobs] = []
        for start in range(0, len(score.targets), _ROWS_AT_ONCE):
            targets = score.targets[start : start + _ROWS_AT_ONCE]
            logits = to_logits(hidden[start : start + len(targets)])
            log_probs = torch.log_softmax(logits, dim=-1)
            result += self.read(log_probs, targets, [score.top_logprobs] * len(targets))
        return result
