"""Masks and bans: sets logits of ids that must not be chosen to -inf."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from glmserve.contract.step import MaskSource, SamplingInput
from glmserve.ops.sampling.gumbel import Float32Array

_NEG_INF = float("-inf")


def apply_token_masks(logits: Tensor, inputs: Sequence[SamplingInput], masks: MaskSource) -> None:
    """Set logits of ids that a row must not choose to -inf, in place.

    Args:
        logits: [S, V]
        inputs: for each row.
        masks: waits for the masks of the constrained rows; called once if there are any.
    """
    if not any(s.constrained or s.banned for s in inputs):
        return
    given = iter(masks() if any(s.constrained for s in inputs) else [])
    for row, s in zip(logits, inputs, strict=True):
        banned = [i for i in s.banned if i < len(row)]
        mask = next(given) if s.constrained else b""
        if mask:  # an empty one restricts nothing
            bounds = _upper_bounds(mask, len(row))
            _ban(bounds, banned)
            torch.minimum(row, torch.from_numpy(bounds).to(row.device), out=row)
        elif banned:
            row.index_fill_(0, torch.tensor(banned, device=row.device), _NEG_INF)


def _ban(bounds: Float32Array, ids: list[int]) -> None:
    """Exclude these ids, too. If the mask allows only banned ids, the bans are ignored."""
    if ids:
        others = bounds.copy()
        others[ids] = _NEG_INF
        if (others > 0).any():
            bounds[ids] = _NEG_INF


def _upper_bounds(mask: bytes, vocab_size: int) -> Float32Array:
    """[V]: inf where the packed bits allow an id; -inf elsewhere, and beyond the mask's end.

    A blocked id's bit becomes the sign bit of an infinity. With the minimum that follows, this
    takes a quarter of the time of a masked assignment.
    """
    blocked = np.unpackbits(~np.frombuffer(mask, dtype=np.uint8), bitorder="little")[:vocab_size]
    if len(blocked) < vocab_size:
        blocked = np.pad(blocked, (0, vocab_size - len(blocked)), constant_values=1)
    bounds = blocked.astype(np.uint32)
    bounds <<= np.uint32(31)
    bounds |= np.uint32(0x7F80_0000)
    return bounds.view(np.float32)
