"""SplitMix64 (Steele, Lea, Flood 2014) and the Gumbel-max trick (Gumbel 1954)."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor


def gumbel_noise(key: int, indices: Tensor) -> Tensor:
    """See kernel.gumbel_noise: float64 of `indices` int64 [n]."""
    z = indices.cpu().numpy().astype(np.uint64) * np.uint64(0x9E37_79B9_7F4A_7C15)
    z += np.array(key).astype(np.uint64)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58_476D_1CE4_E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D0_49BB_1331_11EB)
    z ^= z >> np.uint64(31)
    uniform = ((z >> np.uint64(12)).astype(np.float64) + 0.5) * 2.0**-52
    return torch.from_numpy(-np.log(-np.log(uniform))).to(indices.device)


def draw(weights: Tensor, indices: Tensor, key: int) -> int:
    """See kernel.draw."""
    return int((weights.log() + gumbel_noise(key, indices)).argmax())
