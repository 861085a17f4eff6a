"""The operations of the chip. What is not overridden runs on plain torch."""

from __future__ import annotations

import torch
from torch import Tensor

from glmserve.config import RunnerConfig
from glmserve.errors import OptionError
from glmserve.model_config import ModelConfig
from glmserve.ops.attention.kv_store import make_store
from glmserve.ops.attention.sdpa import SdpaAttention
from glmserve.ops.base import Ops

BLOCK_SIZE = 16
"""Token slots per block: what the chip's attention kernel wants."""


class ExampleOps(Ops):
    """One override, as a pattern. `glmserve/ops/base.py` lists all operations and their shapes.

    Override `self_attention`, or give another attention backend, to use paged attention of the
    chip: see `glmserve/ops/attention/backend.py`.
    """

    def rms_norm(self, x: Tensor, weight: Tensor, eps: float) -> Tensor:
        """x / sqrt(mean(x^2) + eps) * weight, [T, H]: put the call of your kernel here."""
        scale = torch.rsqrt(x.float().square().mean(-1, keepdim=True) + eps)
        return (x.float() * scale * weight.float()).to(x.dtype)


def make_ops(
    config: RunnerConfig, model: ModelConfig, device: torch.device, dtype: torch.dtype
) -> ExampleOps:
    """The operations that the options name.

    Raises:
        OptionError: an option is not supported.
    """
    if config.attention_backend not in ("auto", "sdpa"):
        raise OptionError(
            f"--attention-backend {config.attention_backend}: this device has sdpa only"
        )
    if config.deterministic:
        raise OptionError("--deterministic is not supported by this device")
    block_size = config.block_size or BLOCK_SIZE
    store = make_store(config.kv_cache_dtype, dtype)
    return ExampleOps(
        SdpaAttention(model.num_kv_heads, dtype, device, block_size, store, model.prefix_length)
    )
