"""Checks of arguments: what the vendor's documents forbid is an error here."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

FLOATS = (torch.float32, torch.float16, torch.bfloat16)
"""The vendor's attention and quantised products do not know float32. It is allowed here, so that
whole models can be compared with references in float32."""


def require(condition: Any, message: str) -> None:
    """Fail as the vendor's call would."""
    if not condition:
        raise RuntimeError(f"the vendor's call refuses this: {message}")


def require_whole(**tensors: Tensor) -> None:
    """Fail if a tensor is a view with gaps."""
    for name, tensor in tensors.items():
        require(tensor.is_contiguous(), f"{name} has gaps")
