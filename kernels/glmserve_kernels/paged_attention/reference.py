"""Attention over a paged cache by its definition (Vaswani et al. 2017), in float64."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor


class Cache(NamedTuple):
    """As the launches take it, see paged_decode."""

    keys: Tensor
    values: Tensor
    key_scales: Tensor | None
    value_scales: Tensor | None

    def positions(self, table: Tensor, first: int, end: int) -> tuple[Tensor, Tensor]:
        """Keys and values at positions first..end-1 of the sequence with this row of the block
        tables: float64 [n, Hkv, D]."""
        block_size = self.keys.shape[2]
        at = torch.arange(first, end, device=table.device)
        blocks, slots = table[at // block_size].long(), at % block_size
        keys, values = self.keys[blocks, :, slots].double(), self.values
        if self.key_scales is None or self.value_scales is None:
            return keys, values[blocks, :, slots].double()
        return (
            keys * self.key_scales[blocks, :, slots].double()[..., None],
            values[blocks, :, :, slots].double() * self.value_scales[blocks, :, slots][..., None],
        )


class Softmax(NamedTuple):
    """Over some positions; [n, Hq] and [n, Hq, D], float64."""

    top: Tensor
    """Largest score, times log2(e)."""
    total: Tensor
    """Sum of 2^(score - top)."""
    weighted: Tensor
    """The same sum, each term times its value."""

    @property
    def attention(self) -> Tensor:
        return self.weighted / self.total[..., None]


def softmax(
    q: Tensor, positions: Tensor, cache: Cache, table: Tensor, first: int, end: int, scale: float
) -> Softmax:
    """Queries [n, Hq, D] at these positions [n], of one sequence, against its positions
    first..end-1 as far as each may see them."""
    keys, values = cache.positions(table, first, end)
    group = q.shape[1] // keys.shape[1]
    keys, values = keys.repeat_interleave(group, 1), values.repeat_interleave(group, 1)
    scores = torch.einsum("qhd,phd->qhp", q.double(), keys) * scale / torch.log(torch.tensor(2.0))
    hidden = torch.arange(first, end, device=q.device) > positions[:, None]
    scores = scores.masked_fill(hidden[:, None], float("-inf"))
    top = scores.amax(-1)
    terms = torch.exp2(scores - top[..., None])
    return Softmax(top, terms.sum(-1), torch.einsum("qhp,phd->qhd", terms, values))
