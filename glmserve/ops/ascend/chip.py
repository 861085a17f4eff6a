"""What the chips of the Ascend family compute, by the vendor's documents of each call.

https://gitcode.com/Ascend/op-plugin, docs/context: each page lists the products with its call.
"""

from __future__ import annotations

from typing import NamedTuple

import torch

_A2_A3 = ("Ascend910B", "Ascend910_93")
"""Beginnings of the names of Atlas A2 and A3 chips."""

_HALVES = frozenset({torch.float16, torch.bfloat16})


class Chip(NamedTuple):
    """The properties of an NPU that operations depend on."""

    name: str
    """As the driver has it: "Ascend910B3", "Ascend310P3"."""
    dtypes: frozenset[torch.dtype]
    """Number formats of activations."""
    has_fused_calls: bool
    """Whether it has fused attention, SwiGLU, the rotation of adjacent pairs, and activations
    rounded row by row. The documents name Atlas A2 and A3 for these."""


def chip_named(name: str) -> Chip:
    """The chip of this name. One that is not known gets what all have: float16, and torch's
    operations in place of the fused calls."""
    if name.startswith(_A2_A3):
        return Chip(name, _HALVES, has_fused_calls=True)
    return Chip(name, frozenset({torch.float16}), has_fused_calls=False)
