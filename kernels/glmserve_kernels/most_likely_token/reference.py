"""The most likely token by its definition."""

from __future__ import annotations

import torch
from torch import Tensor


def unpack_bits(words: Tensor, size: int) -> Tensor:
    """The first `size` bits of int32 [..., n], those of lower value first: bool [..., size]."""
    places = torch.arange(32, device=words.device, dtype=torch.int32)
    return ((words[..., None] >> places) & 1 != 0).flatten(-2)[..., :size]


def most_likely_token(*, logits: Tensor, allowed: Tensor, out: Tensor) -> dict[str, Tensor]:
    """See kernel.most_likely_token."""
    values = torch.where(unpack_bits(allowed, logits.shape[1]), logits, -torch.inf)
    largest = values.amax(1, keepdim=True)  # NaN, if there is one
    first = (values == largest).int().argmax(1)  # of equals, the lowest
    return {"out": torch.where(largest.isfinite().flatten(), first, -1).double()}
