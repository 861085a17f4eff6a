"""Takes ids out of the running before a token is chosen."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from glmserve.step import MaskSource, SamplingInput

_NEVER = float("-inf")


def restrict(logits: Tensor, inputs: Sequence[SamplingInput], masks: MaskSource) -> None:
    """Set what each row of `logits` [S, V] must not choose to -inf, in place."""
    for row, s in zip(logits, inputs, strict=True):
        if s.banned:
            ids = torch.tensor([i for i in s.banned if i < logits.shape[1]], device=logits.device)
            row.index_fill_(0, ids.long(), _NEVER)
    constrained = [i for i, s in enumerate(inputs) if s.constrained]
    if not constrained:
        return
    # An empty mask restricts nothing.
    rows = {i: mask for i, mask in zip(constrained, masks(), strict=True) if mask}
    if rows:
        allowed = _unpack(list(rows.values()), logits.shape[1], logits.device)
        indices = torch.tensor(list(rows), device=logits.device)
        logits[indices] = logits[indices].masked_fill_(~allowed, _NEVER)


def _unpack(masks: list[bytes], vocab_size: int, device: torch.device) -> Tensor:
    """Packed bits to bool [n, V]; ids beyond a mask's end are not allowed."""
    num_bytes = -(-vocab_size // 8)
    packed = np.zeros((len(masks), num_bytes), dtype=np.uint8)
    for row, mask in zip(packed, masks, strict=True):
        data = np.frombuffer(mask, dtype=np.uint8)[:num_bytes]
        row[: len(data)] = data
    bits = torch.from_numpy(packed).to(device)[:, :, None] >> torch.arange(
        8, dtype=torch.uint8, device=device
    )
    return (bits & 1).flatten(1)[:, :vocab_size].bool()
