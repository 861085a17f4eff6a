"""Writing to the paged cache."""

from __future__ import annotations

import torch
from torch import Tensor

from support.ascend_simulator.arguments import require, require_whole


def npu_scatter_pa_kv_cache(
    key: Tensor,
    value: Tensor,
    key_cache: Tensor,
    value_cache: Tensor,
    slot_mapping: Tensor,
    *,
    compress_lens: Tensor | None = None,
    compress_seq_offsets: Tensor | None = None,
    seq_lens: Tensor | None = None,
    cache_mode: str | None = "PA_NZ",
) -> None:
    require(cache_mode == "Norm", "the layout here is [blocks, slots, heads, dims]")
    require(compress_lens is compress_seq_offsets is seq_lens is None, "not simulated")
    _store(key, value, key_cache, value_cache, slot_mapping)


def _npu_reshape_and_cache(
    key: Tensor, value: Tensor, key_cache: Tensor, value_cache: Tensor, slot_indices: Tensor
) -> None:
    _store(key, value, key_cache, value_cache, slot_indices)


def _store(
    keys: Tensor, values: Tensor, key_cache: Tensor, value_cache: Tensor, at: Tensor
) -> None:
    require_whole(key=keys, value=values, key_cache=key_cache, value_cache=value_cache, slots=at)
    require(at.dtype == torch.int32 and at.shape == keys.shape[:1] and len(at), "slots")
    for new, cache in ((keys, key_cache), (values, value_cache)):
        require(new.dtype == cache.dtype and new.shape[1:] == cache.shape[2:], "shape or dtype")
        require(0 <= int(at.min()) <= int(at.max()) < cache[:, :, 0, 0].numel(), "no such slot")
        cache.view(-1, *cache.shape[2:]).index_copy_(0, at.long(), new)
