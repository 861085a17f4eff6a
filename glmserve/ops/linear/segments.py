"""Products that are summed in an order that no number of ranks changes (--deterministic).

The columns of a weight are cut into equal segments, as many whatever the number of ranks. The
products of the segments are added as a binary tree: neighbours first. A rank has the segments of a
whole subtree, so it computes that subtree's sum, and the ranks' sums are added in the same way.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from math import gcd

import torch
from torch import Tensor

from glmserve.ops.linear.float8 import Float8Weight
from glmserve.ops.linear.quantized import QuantizedWeight
from glmserve.ops.linear.static import LinearWeight, StaticWeight

MOST_SEGMENTS = 8
"""Of a weight that is not cut over ranks; also the largest number of ranks."""


@dataclass(frozen=True, slots=True)
class Segments:
    """A weight whose columns are in equal segments, each of them packed for an Ops."""

    weights: tuple[object, ...]

    def multiply(
        self,
        x: Tensor,
        bias: Tensor | None,
        linear: Callable[[Tensor, object, Tensor | None], Tensor],
        adapt: Callable[[int, Tensor, Tensor], None] | None = None,
    ) -> Tensor:
        """x [T, in] @ weight^T + bias, summed in order: float32 [T, out].

        Args:
            linear: of the Ops that packed the weights. The first segment's product has the bias.
            adapt: adds what adapters add to a segment's product, from the segment's number, its
                columns of x and the product.
        """
        products = []
        for i, (part, weight) in enumerate(
            zip(x.chunk(len(self.weights), dim=1), self.weights, strict=True)
        ):
            columns = part.contiguous()
            product = linear(columns, weight, None if i else bias)
            if adapt is not None:
                adapt(i, columns, product)
            products.append(product.float())
        return pairwise_sum(products)


def pairwise_sum(parts: Sequence[Tensor]) -> Tensor:
    """Neighbours are added, then neighbours of these sums, and so on.

    Args:
        parts: as many as a power of two.
    """
    while len(parts) > 1:
        parts = [torch.add(a, b) for a, b in zip(parts[::2], parts[1::2], strict=True)]
    return parts[0]


def count_segments(columns: int, unit: int = 1) -> int:
    """The number of segments of a whole weight, such that a segment has whole units of columns."""
    return gcd(MOST_SEGMENTS, columns // unit) if columns % unit == 0 else 1


def segments_of(weight: LinearWeight, count: int) -> list[LinearWeight]:
    """The weight's columns in equal segments."""
    if isinstance(weight, QuantizedWeight):
        codes = weight.codes.chunk(count, dim=1)
        groups = weight.scales.shape[1]
        scales = weight.scales.chunk(count, dim=1) if groups > 1 else [weight.scales] * count
        return [replace(weight, codes=c, scales=s) for c, s in zip(codes, scales, strict=True)]
    if isinstance(weight, Float8Weight):
        return [replace(weight, codes=codes) for codes in weight.codes.chunk(count, dim=1)]
    if isinstance(weight, StaticWeight):
        return _static_segments(weight, count)
    return list(weight.chunk(count, dim=1))


def _static_segments(weight: StaticWeight, count: int) -> list[LinearWeight]:
    """The first segment has the bias."""
    shifts = [None] * count if weight.shift is None else weight.shift.chunk(count)
    pairs = zip(weight.codes.chunk(count, dim=1), shifts, strict=True)
    none = torch.zeros_like(weight.quant_bias)
    return [
        replace(weight, codes=c, shift=s, quant_bias=none if i else weight.quant_bias)
        for i, (c, s) in enumerate(pairs)
    ]
