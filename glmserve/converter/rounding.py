"""Rounds a weight in the same way as the official quantised checkpoints."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from glmserve.config import WeightBits
from glmserve.ops.linear.quantized import LARGEST_CODE, QuantizedWeight, pack_codes

_ROWS_AT_ONCE = 1024


class RoundedWeight(NamedTuple):
    """A weight in the layout of the official quantised checkpoints."""

    codes: Tensor
    """int8 [N, K]; of 4 bits [N, K/2]."""
    scales: Tensor
    """float16 [N]; of groups of columns [N, G]."""
    relative_error: float
    """Frobenius norm of the difference, divided by that of the weight."""


def round_weight(weight: Tensor, bits: WeightBits, group_size: int | None) -> RoundedWeight:
    """Round a weight [N, K] to the nearest symmetric codes.

    Quotients of a float16 weight are rounded to float16 first, which gives the codes of the
    official checkpoints. Quotients of other weights are float32.

    Args:
        weight: floating point.
        group_size: columns that share a scale; divides K. None: all columns.

    Raises:
        ValueError: numbers are not finite, or too large for a scale in float16.
    """
    codes, scales, error, norm = [], [], 0.0, 0.0
    for start in range(0, len(weight), _ROWS_AT_ONCE):
        rows = weight[start : start + _ROWS_AT_ONCE]
        exact = rows if rows.dtype == torch.float16 else rows.float()
        rounded = _round_rows(exact, bits, group_size or rows.shape[1])
        codes.append(rounded.codes)
        scales.append(rounded.scales)
        difference = rounded.dequantized(torch.float32).sub_(exact)
        error += difference.square_().sum(dtype=torch.float64).item()
        norm += exact.float().square().sum(dtype=torch.float64).item()
    found = torch.cat(scales)
    return RoundedWeight(
        torch.cat(codes),
        found[:, 0].contiguous() if group_size is None else found,
        math.sqrt(error / norm) if norm else 0.0,
    )


def _round_rows(weight: Tensor, bits: WeightBits, group_size: int) -> QuantizedWeight:
    largest = LARGEST_CODE[bits]
    groups = weight.reshape(len(weight), -1, group_size)
    scales = (groups.abs().amax(-1) / largest).half()
    if not scales.isfinite().all():
        raise ValueError("holds numbers that are not finite, or too large for a scale in float16")
    divisors = scales.masked_fill(
        scales == 0, 1
    )  # the group's numbers are so small that all codes are 0
    quotients = (groups / divisors[..., None]).round_()
    # A scale below float16's normal numbers is inexact, so quotients may exceed the largest code.
    codes = quotients.clamp_(-largest, largest).to(torch.int8).flatten(1)
    return QuantizedWeight(pack_codes(codes, bits), scales, bits)


def relative_error(rounded: Tensor, exact: Tensor) -> float:
    """Frobenius norm of the difference, divided by that of the exact weight."""
    norm = exact.norm(dtype=torch.float64).item()
    return (rounded.double() - exact.double()).norm().item() / norm if norm else 0.0
