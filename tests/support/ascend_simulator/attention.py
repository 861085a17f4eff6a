"""Attention over the paged cache, and without pages."""

from __future__ import annotations

import torch
from torch import Tensor

from support.ascend_simulator.arguments import FLOATS, require, require_whole

MASK_SIZE = 2048


def npu_fused_infer_attention_score(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    *,
    pse_shift: Tensor | None = None,
    atten_mask: Tensor | None = None,
    actual_seq_lengths: list[int] | None = None,
    actual_seq_lengths_kv: list[int] | None = None,
    dequant_scale1: Tensor | None = None,
    quant_scale1: Tensor | None = None,
    dequant_scale2: Tensor | None = None,
    quant_scale2: Tensor | None = None,
    quant_offset2: Tensor | None = None,
    antiquant_scale: Tensor | None = None,
    antiquant_offset: Tensor | None = None,
    key_antiquant_scale: Tensor | None = None,
    key_antiquant_offset: Tensor | None = None,
    value_antiquant_scale: Tensor | None = None,
    value_antiquant_offset: Tensor | None = None,
    block_table: Tensor | None = None,
    query_padding_size: Tensor | None = None,
    kv_padding_size: Tensor | None = None,
    key_shared_prefix: Tensor | None = None,
    value_shared_prefix: Tensor | None = None,
    actual_shared_prefix_len: list[int] | None = None,
    query_rope: Tensor | None = None,
    key_rope: Tensor | None = None,
    key_rope_antiquant_scale: Tensor | None = None,
    num_heads: int = 1,
    scale: float = 1.0,
    pre_tokens: int = 2147483647,
    next_tokens: int = 2147483647,
    input_layout: str = "BSH",
    num_key_value_heads: int = 0,
    sparse_mode: int = 0,
    inner_precise: int = 0,
    block_size: int = 0,
    antiquant_mode: int = 0,
    key_antiquant_mode: int = 0,
    value_antiquant_mode: int = 0,
    softmax_lse_flag: bool = False,
) -> tuple[Tensor, Tensor]:
    require_whole(query=query, key=key, value=value)
    require(query.dtype in FLOATS and key.shape == value.shape, "query's dtype; key and value")
    require(query.shape[-2] == num_heads and num_heads % num_key_value_heads == 0, "num_heads")
    require(actual_seq_lengths_kv is not None, "actual_seq_lengths_kv is missing")
    contexts = list(actual_seq_lengths_kv or [])
    scales = (key_antiquant_scale, value_antiquant_scale)
    if input_layout == "BSND":
        require(len(query) == len(contexts) and query.shape[1] == 1, "one query of each sequence")
        require(block_table is not None and not sparse_mode and atten_mask is None, "not simulated")
        ends = list(range(1, len(query) + 1))
    else:
        require(input_layout == "TND" and sparse_mode == 3, "not simulated")
        require(_is_causal(atten_mask), "the mask is int8 [2048, 2048], 1 above the diagonal")
        require(actual_seq_lengths is not None, "actual_seq_lengths is missing")
        require(not any(s is not None for s in scales), "pages of int8 are for single queries")
        ends = list(actual_seq_lengths or [])
    require(ends == sorted(ends) and ends[-1] == query.shape[:-2].numel(), "actual_seq_lengths")
    pages = _Pages(block_table, block_size, contexts, num_key_value_heads, query.dtype)
    modes = (key_antiquant_mode, value_antiquant_mode)
    numbers = [
        pages.read(tensor, scale, mode)
        for tensor, scale, mode in zip((key, value), scales, modes, strict=True)
    ]
    flat = query.view(-1, num_heads, query.shape[-1])
    parts = []
    for i, (first, last) in enumerate(zip([0, *ends], ends, strict=False)):
        own = flat[first:last]
        require(0 < len(own) <= contexts[i] or block_table is None, "more queries than keys")
        parts.append(_attend(own, numbers[0][i], numbers[1][i], scale))
    return torch.cat(parts).view(query.shape), torch.zeros(1)


_causal_masks: dict[int, Tensor] = {}
"""Masks that were compared once, by address; they live as long, so no address is used again."""


def _is_causal(mask: Tensor | None) -> bool:
    if mask is None or mask.dtype != torch.int8:
        return False
    if mask.data_ptr() not in _causal_masks:
        if not torch.equal(mask, torch.ones(MASK_SIZE, MASK_SIZE, dtype=torch.int8).triu(1)):
            return False
        _causal_masks[mask.data_ptr()] = mask
    return True


class _Pages:
    """Keys or values of each sequence, from pages or from tensors without pages."""

    def __init__(
        self,
        table: Tensor | None,
        block_size: int,
        contexts: list[int],
        heads: int,
        dtype: torch.dtype,
    ) -> None:
        self._table, self._block_size = table, block_size
        self._contexts, self._heads, self._dtype = contexts, heads, dtype

    def read(self, numbers: Tensor, scales: Tensor | None, mode: int) -> list[Tensor]:
        """[context, heads, D] of each sequence, in the queries' dtype."""
        if self._table is None:
            return self._read_flat(numbers)
        blocks, size, _ = numbers.shape
        require(size == self._block_size and size % 128 == 0 and size <= 512, "block_size")
        require(self._table.dtype == torch.int32 and self._table.dim() == 2, "block_table")
        require(len(self._table) == len(self._contexts), "block_table has other sequences")
        wide = numbers.view(blocks, size, self._heads, -1)
        multiple = 32 if numbers.dtype == torch.int8 else 16
        require(wide.shape[-1] % multiple == 0, f"a head is no multiple of {multiple}")
        if scales is None:
            require(numbers.dtype == self._dtype, "keys have another dtype than queries")
        else:
            require(numbers.dtype == torch.int8 and mode == 5, "scales by token and head: 5")
            require(scales.dtype == torch.float32, "scales are float32")
            require(scales.shape == (blocks, self._heads, size), "shape of the scales")
        return [self._sequence(wide, scales, i) for i in range(len(self._contexts))]

    def _sequence(self, wide: Tensor, scales: Tensor | None, index: int) -> Tensor:
        assert self._table is not None
        context = self._contexts[index]
        count = -(-context // self._block_size)
        require(count <= self._table.shape[1], "block_table is too short")
        ids = self._table[index, :count].long()
        require(0 <= int(ids.min()) <= int(ids.max()) < len(wide), "no such block")
        own = wide[ids]
        if scales is not None:
            own = own.float() * scales[ids].transpose(1, 2).unsqueeze(-1)
        return own.flatten(0, 1)[:context].to(self._dtype)

    def _read_flat(self, numbers: Tensor) -> list[Tensor]:
        require(numbers.dtype == self._dtype, "keys have another dtype than queries")
        require(numbers.dim() == 3 and numbers.shape[1] == self._heads, "key is not TND")
        ends = self._contexts
        require(ends == sorted(ends) and ends[-1] == len(numbers), "actual_seq_lengths_kv")
        return [numbers[a:b] for a, b in zip([0, *ends], ends, strict=False)]


def _attend(q: Tensor, k: Tensor, v: Tensor, scale: float) -> Tensor:
    """[n, heads, D]: query i of n sees the first len(k) - n + i + 1 keys."""
    group = q.shape[1] // k.shape[1]
    wide = [x.float().transpose(0, 1) for x in (q, k, v)]  # [heads, tokens, D]
    keys, values = (x.repeat_interleave(group, 0) for x in wide[1:])
    scores = wide[0] @ keys.transpose(1, 2) * scale
    beyond = torch.ones(scores.shape[1:], dtype=torch.bool).triu(1 + len(k) - len(q))
    weights = scores.masked_fill(beyond, -torch.inf).softmax(-1)
    return (weights @ values).transpose(0, 1).to(q.dtype)


def npu_incre_flash_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    *,
    padding_mask: Tensor | None = None,
    atten_mask: Tensor | None = None,
    pse_shift: Tensor | None = None,
    actual_seq_lengths: list[int] | None = None,
    antiquant_scale: Tensor | None = None,
    antiquant_offset: Tensor | None = None,
    block_table: Tensor | None = None,
    dequant_scale1: Tensor | None = None,
    quant_scale1: Tensor | None = None,
    dequant_scale2: Tensor | None = None,
    quant_scale2: Tensor | None = None,
    quant_offset2: Tensor | None = None,
    kv_padding_size: Tensor | None = None,
    num_heads: int = 1,
    scale_value: float = 1.0,
    input_layout: str = "BSH",
    num_key_value_heads: int = 0,
    block_size: int = 0,
    inner_precise: int = 1,
) -> Tensor:
    require_whole(query=query, key=key, value=value)
    require(query.dtype in FLOATS and key.shape == value.shape, "query's dtype; key and value")
    require(input_layout == "BSH" and atten_mask is None, "not simulated")
    require(query.dim() == key.dim() == 3 and query.shape[1] == 1, "one query of each sequence")
    require(num_heads <= 256 and num_heads // num_key_value_heads <= 64, "num_heads")
    require(block_table is not None and actual_seq_lengths is not None, "pages need lengths")
    contexts = list(actual_seq_lengths or [])
    require(len(contexts) == len(query), "actual_seq_lengths")
    pages = _Pages(block_table, block_size, contexts, num_key_value_heads, query.dtype)
    keys, values = (pages.read(numbers, None, 0) for numbers in (key, value))
    heads = query.view(len(query), num_heads, -1)
    parts = [_attend(heads[i : i + 1], keys[i], values[i], scale_value) for i in range(len(query))]
    return torch.cat(parts).view(query.shape)


def _npu_paged_attention(
    query: Tensor,
    key_cache: Tensor,
    value_cache: Tensor,
    num_kv_heads: int,
    num_heads: int,
    scale_value: float,
    block_table: Tensor,
    context_lens: Tensor,
    out: Tensor,
    *,
    workspace: Tensor | None = None,
) -> None:
    require_whole(query=query, key_cache=key_cache, value_cache=value_cache, out=out)
    require(context_lens.dtype == torch.int32 and len(context_lens) == len(query), "context_lens")
    require(query.shape == out.shape and query.shape[1] == num_heads, "query or out")
    require(workspace is None, "not simulated")
    contexts = context_lens.tolist()
    pages = _Pages(block_table, key_cache.shape[1], contexts, num_kv_heads, query.dtype)
    keys, values = (pages.read(c.flatten(2), None, 0) for c in (key_cache, value_cache))
    for i in range(len(query)):
        out[i] = _attend(query[i : i + 1], keys[i], values[i], scale_value)[0]
