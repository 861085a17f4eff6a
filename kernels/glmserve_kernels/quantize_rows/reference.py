"""Rounding to float8_e4m3fn by torch, which rounds to the nearest, and to even between two."""

from __future__ import annotations

import torch
from torch import Tensor


def quantize_rows(*, x: Tensor, codes: Tensor, scales: Tensor) -> dict[str, Tensor]:
    """See kernel.quantize_rows. The scales are rounded to float32 before they are used."""
    found = x.double().abs().amax(-1).div(448).float()
    divisors = found.clamp(min=torch.finfo(torch.float32).tiny)
    rounded = (x.float() / divisors[:, None]).to(torch.float8_e4m3fn)
    return {"codes": rounded.double(), "scales": found.double()}
