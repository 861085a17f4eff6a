"""Sampling by its definition: sort, cut, draw."""

from __future__ import annotations

import torch
from torch import Tensor

from glmserve_kernels.gumbel_draw.reference import draw
from glmserve_kernels.most_likely_token.reference import unpack_bits


def sample(
    *,
    logits: Tensor,
    temperature: Tensor,
    top_k: Tensor,
    top_p: Tensor,
    min_p: Tensor,
    noise_key: Tensor,
    mask_rows: Tensor,
    masks: Tensor,
    allowed: Tensor,
    out: Tensor,
) -> dict[str, Tensor]:
    """See kernel.sample."""
    size = logits.shape[1]
    values = torch.where(unpack_bits(allowed, size), logits.double(), -torch.inf)
    masked = unpack_bits(masks, size)[mask_rows.long()] | (mask_rows < 0)[:, None]
    values = torch.where(masked | values.isnan(), values, -torch.inf)
    tokens = [
        _sample_row(
            row,
            float(temperature[i]),
            int(top_k[i]),
            float(top_p[i]),
            float(min_p[i]),
            int(noise_key[i]),
        )
        for i, row in enumerate(values)
    ]
    return {"out": torch.tensor(tokens, dtype=torch.float64, device=out.device)}


def _sample_row(
    logits: Tensor, temperature: float, top_k: int, top_p: float, min_p: float, noise_key: int
) -> int:
    largest = logits.max()
    if not largest.isfinite():
        return -1
    if temperature == 0.0:
        return int((logits == largest).int().argmax())
    weights = ((logits - largest) / temperature).exp()
    order = weights.argsort(descending=True, stable=True)
    if top_k > 0:
        order = order[:top_k]
    if top_p < 1.0:
        sums = weights[order].cumsum(0)
        order = order[: 1 + int((sums < top_p * sums[-1]).sum())]
    kept = torch.zeros_like(weights)
    kept[order] = weights[order]
    kept[kept < min_p] = 0.0
    return _draw_in_two_steps(kept, noise_key)


def _draw_in_two_steps(weights: Tensor, key: int) -> int:
    ids = torch.arange(len(weights), device=weights.device)
    sums = torch.stack([block.sum() for block in torch.split(weights, 256)])
    block = draw(sums, ids[: len(sums)], key)
    within = slice(block * 256, (block + 1) * 256)
    return block * 256 + draw(weights[within], ids[within] + 2**32, key)
