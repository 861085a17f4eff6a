"""RMSNorm by its definition (Zhang, Sennrich 2019)."""

from __future__ import annotations

from torch import Tensor


def rms_norm(
    *, x: Tensor, residual: Tensor | None, weight: Tensor, out: Tensor, eps: float
) -> dict[str, Tensor]:
    """See kernel.rms_norm. The residual is rounded to its dtype before it is normed."""
    expected = {}
    wide = x.double()
    if residual is not None:
        wide = (wide + residual.double()).to(residual.dtype).double()
        expected["residual"] = wide
    scale = (wide.square().mean(-1, keepdim=True) + eps).rsqrt()
    return {**expected, "out": wide * scale * weight.double()}
