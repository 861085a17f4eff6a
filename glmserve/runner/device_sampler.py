"""Chooses tokens on the device."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from glmserve.step import SamplingInput


class DeviceSampler:
    def __init__(
        self,
        vocab_size: int,
        vocab_limit: int | None,
        never_sampled: Sequence[int],
        device: torch.device,
        chip: str,
    ) -> None:
        self._limit = vocab_limit

    def sample(
        self, logits: Tensor, inputs: Sequence[SamplingInput], masks: Sequence[bytes]
    ) -> Tensor:
        values, ids = logits[:, : self._limit].max(dim=-1)
        return torch.where(values.isfinite(), ids, -1)
