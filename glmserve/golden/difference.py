"""How far a device's tensors are from a golden's, and the first one that is too far."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from glmserve.runner import tensor_names as names


class Difference(NamedTuple):
    """One tensor of a device beside the golden's."""

    name: str
    relative_error: float
    """Largest over the rows: |device - golden| / |golden|, Euclidean norms. Infinite if a number is
    not finite, or if the shapes differ."""
    cosine: float
    """Smallest over the rows."""
    worst_row: int
    """The token with the largest error."""


def differences(
    device: dict[str, Tensor], golden: dict[str, Tensor], num_layers: int
) -> list[Difference]:
    """A difference for each tensor that both have, in the order in which a model computes them."""
    return [
        _difference(name, device[name], golden[name])
        for name in names.in_order(num_layers)
        if name in device and name in golden
    ]


def first_beyond(found: list[Difference], tolerance: float) -> Difference | None:
    """The first tensor with a larger error; the cause is between the tensor before it and it."""
    return next((d for d in found if not d.relative_error <= tolerance), None)


def _difference(name: str, device: Tensor, golden: Tensor) -> Difference:
    own, right = device.flatten(1).double(), golden.flatten(1).double()
    if own.shape != right.shape:
        return Difference(name, float("inf"), 0.0, 0)
    size = right.norm(dim=1)
    # A row of zeros has no direction; its error counts as it is.
    errors = (own - right).norm(dim=1) / torch.where(size > 0, size, 1.0)
    errors = errors.nan_to_num(nan=float("inf"))
    worst = int(errors.argmax())
    cosines = torch.cosine_similarity(own, right, dim=1).nan_to_num(nan=0.0)
    return Difference(name, float(errors[worst]), float(cosines.min()), worst)
