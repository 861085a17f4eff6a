"""Log-probabilities of chosen and of given tokens.

They are logarithms of the model's softmax over its whole vocabulary, before penalties, temperature
and masks. So they equal those of other implementations of the model.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from glmserve.contract.step import Logprobs, SamplingInput, ScoreInput
from glmserve.ops.uploads import Uploads
from glmserve.runner.top_tokens import top_tokens

_ROWS_AT_ONCE = 64
"""Logits of a whole prompt could take gigabytes: 2048 tokens of GLM-4's vocabulary take 1.2 GB."""


class TokenScores(NamedTuple):
    """Log-probabilities of n tokens, on the device or the host."""

    own: Tensor
    """[n]: of the tokens themselves."""
    top_ids: Tensor
    """int64 [n, k]: the most likely ids that can be sampled, by descending log-probability; of
    equally likely ones the lowest first."""
    top: Tensor
    """[n, k]"""
    given: Tensor
    """[n, m]: of ids that the request names."""

    def as_logprobs(
        self, counts: Sequence[int], given_ids: Sequence[Sequence[int]] | None = None
    ) -> list[Logprobs]:
        """As plain data. Waits for the device.

        Args:
            counts: `counts[i]` <= k alternatives for token i.
            given_ids: for token i the ids, at most m, of its row of `given`; None: there are none.
        """
        own, top_ids, top, given = (tensor.tolist() for tensor in self)
        names = [[]] * len(own) if given_ids is None else given_ids
        rows = zip(own, top_ids, top, counts, given, names, strict=True)
        return [
            Logprobs(one, [*ids[:n], *more], [*values[:n], *others[: len(more)]])
            for one, ids, values, n, others, more in rows
        ]


class LogprobReader:
    """Computes log-probabilities over one vocabulary.

    Args:
        uploads: to the device of the logits.
        vocab_limit: ids from here on are no alternatives; None: no limit.
        never_sampled: int64 [n], further ids that are no alternatives.
    """

    def __init__(self, uploads: Uploads, vocab_limit: int | None, never_sampled: Tensor) -> None:
        self._uploads = uploads
        self._vocab_limit = vocab_limit
        self._never_sampled = never_sampled

    def read_chosen(
        self, log_probs: Tensor, token_ids: Tensor, inputs: Sequence[SamplingInput]
    ) -> TokenScores:
        """What the inputs of chosen tokens ask for. Does not wait for the device.

        Args:
            log_probs: float32 [n, V]; overwritten.
            token_ids: int64 [n]
            inputs: n, all with `top_logprobs`.
        """
        count = max(s.top_logprobs or 0 for s in inputs)
        given = [s.logprob_token_ids for s in inputs]
        most = max(map(len, given))
        if not most:
            return self.read(log_probs, token_ids, count)
        rows = np.array([[*ids, *[0] * (most - len(ids))] for ids in given], dtype=np.int64)
        return self.read(log_probs, token_ids, count, self._uploads.send(rows))

    def read(
        self, log_probs: Tensor, token_ids: Tensor, count: int, given_ids: Tensor | None = None
    ) -> TokenScores:
        """Log-probabilities of one token per row.

        Args:
            log_probs: float32 [n, V]; overwritten.
            token_ids: int64 [n]
            count: how many alternatives.
            given_ids: int64 [n, m], further ids of each row.
        """
        # A view of no columns would keep the logarithms of every token.
        none = log_probs.new_empty(len(log_probs), 0)
        given = none if given_ids is None else log_probs.gather(1, given_ids)
        own = log_probs.gather(1, token_ids.clamp(min=0)[:, None]).flatten()
        shown = log_probs[:, : self._vocab_limit]
        if len(self._never_sampled):
            shown.index_fill_(1, self._never_sampled, float("-inf"))
        values, ids = top_tokens(shown, min(count, shown.shape[1]))
        return TokenScores(own, ids, values, given)

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
            return TokenScores(nothing.flatten(), nothing.long(), nothing, nothing)
        parts = []
        targets = self._uploads.send(np.array(score.targets, dtype=np.int64))
        for start in range(0, len(targets), _ROWS_AT_ONCE):
            ids = targets[start : start + _ROWS_AT_ONCE]
            rows = hidden[start : start + len(ids)]
            # A name for the logarithms would keep them until the next ones exist.
            parts.append(
                self.read(torch.log_softmax(to_logits(rows), dim=-1), ids, score.top_logprobs)
            )
        return TokenScores(*map(torch.cat, zip(*parts, strict=True)))
