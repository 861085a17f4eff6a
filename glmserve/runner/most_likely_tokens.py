"""Greedy steps on a CPU: the output layer finds the most likely tokens without storing logits."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from glmserve.contract.step import INVALID_TOKEN_ID
from glmserve.models.glm import Glm
from glmserve.runner.token_bitmask import bits_of_range
from glmserve_cpu_kernels.linear import PackedLinear


class MostLikelyTokens:
    """Chooses the ids that the logits and sampler.py would give.

    Args:
        output: the output layer.
        allowed: see PackedLinear.most_likely.
    """

    def __init__(self, output: PackedLinear, allowed: NDArray[np.uint32]) -> None:
        self._output = output
        self._allowed = allowed

    @classmethod
    def of(
        cls, model: Any, vocab_limit: int | None, never_sampled: Sequence[int]
    ) -> MostLikelyTokens | None:
        """None: other kernels compute the model's output layer, or several ranks.

        Args:
            vocab_limit: ids from here on are never chosen; None: no limit.
            never_sampled: further ids that are never chosen.
        """
        if not isinstance(model, Glm) or not isinstance(model.output, PackedLinear):
            return None
        if model.collectives.shard.size > 1:
            return None
        size = model.config.vocab_size
        limit = size if vocab_limit is None else min(vocab_limit, size)
        allowed = bits_of_range(limit, size, without=never_sampled)
        return cls(model.output, allowed.view(np.uint32))

    def __call__(self, hidden: Tensor) -> list[int]:
        """Token ids [O] after the last hidden states [O, H]; INVALID_TOKEN_ID for a row that is not
        finite."""
        if not len(hidden):
            return []
        ids, logits = self._output.most_likely(hidden, self._allowed)
        pairs = zip(ids.tolist(), logits.tolist(), strict=True)
        return [token if math.isfinite(logit) else INVALID_TOKEN_ID for token, logit in pairs]
