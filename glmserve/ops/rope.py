"""The rotations of all positions, computed once while a model loads."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from glmserve.model_config import RopeConfig
from glmserve.model_config.config import Yarn


def rope_table(rope: RopeConfig, length: int, device: torch.device) -> Tensor:
    """See `Ops.rope_table`."""
    positions = torch.arange(length, dtype=torch.float32, device=device) / rope.position_divisor
    angles = torch.outer(positions, _frequencies(rope, device))
    magnitude = 1.0 if rope.yarn is None else rope.yarn.attention_factor
    return torch.polar(torch.full_like(angles, magnitude), angles)


def _frequencies(rope: RopeConfig, device: torch.device) -> Tensor:
    """Radians for each position, of each pair: float32 [R/2]."""
    exponents = torch.arange(0, rope.dim, 2, dtype=torch.float32, device=device) / rope.dim
    frequencies = 1.0 / rope.base**exponents
    if rope.rounded_frequencies:
        frequencies = frequencies.half().float()
    if rope.yarn is not None:
        slow = _slowness(rope, rope.yarn).to(device)
        frequencies = frequencies * (1 - slow) + frequencies / rope.yarn.factor * slow
    return frequencies


def _slowness(rope: RopeConfig, yarn: Yarn) -> Tensor:
    """0 for pairs that rotate fast, 1 for slow ones: float32 [R/2], on the CPU."""
    low, high = _pair_with(yarn.beta_fast, rope, yarn), _pair_with(yarn.beta_slow, rope, yarn)
    if yarn.truncate:
        low, high = math.floor(low), math.ceil(high)
    low, high = max(low, 0), min(high, rope.dim - 1)
    if low == high:
        high += 0.001  # as in transformers
    pairs = torch.arange(rope.dim // 2, dtype=torch.float32)
    return ((pairs - low) / (high - low)).clamp(0, 1)


def _pair_with(turns: float, rope: RopeConfig, yarn: Yarn) -> float:
    """The pair, perhaps between two, that turns so often over the original context."""
    wavelength = yarn.original_context / turns
    return rope.dim * math.log(wavelength / (2 * math.pi)) / (2 * math.log(rope.base))
