"""What the launches of the attention kernels share."""

from __future__ import annotations

import math

from torch import Tensor

LOG2_E = math.log2(math.e)

METADATA = ("tables_ptr", "query_start_ptr", "context_lens_ptr", "items_ptr", "item_start_ptr")
"""Small tensors that a server may make anew, or cut out of others, for each step: wherever they
lie, nothing is compiled for it."""


def shape_class(keys: Tensor) -> str:
    """Under which name the tiles for this cache are found."""
    return f"{8 * keys.element_size()}-bit cache"


def cache_strides(
    keys: Tensor, values: Tensor, key_scales: Tensor | None
) -> tuple[int, int, int, int, int, int]:
    """Between blocks and between heads: of keys, values, scales."""
    scales = (0, 0) if key_scales is None else (key_scales.stride(0), key_scales.stride(1))
    return keys.stride(0), keys.stride(1), values.stride(0), values.stride(1), *scales
