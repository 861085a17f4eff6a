"""One program per pair and section of a block, which is copied as 4-byte words."""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from glmserve_kernels.integers import ceil_div
from glmserve_kernels.tiles import Tiles


@triton.jit
def _copy_blocks(cache_ptr, pairs_ptr, block_stride, block_words, BLOCK: tl.constexpr):
    pair = tl.program_id(0)
    source = tl.load(pairs_ptr + 2 * pair).to(tl.int64)
    if source >= 0:
        target = tl.load(pairs_ptr + 2 * pair + 1).to(tl.int64)
        words = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
        inside = words < block_words
        content = tl.load(cache_ptr + source * block_stride + words, mask=inside)
        tl.store(cache_ptr + target * block_stride + words, content, mask=inside)


def copy_blocks(*, cache: Tensor, pairs: Tensor, tiles: Tiles) -> None:
    """cache[target] = cache[source] for every pair, in no particular order.

    Args:
        cache: [num_blocks, ...] of any dtype, each block contiguous and a multiple of 4 bytes.
        pairs: [n, 2] integers, n > 0: source and target. A source of -1 is padding. No target may
            be another pair's source or target.
    """
    words = cache.view(cache.shape[0], -1).view(torch.int32)
    constants = tiles["any"]
    grid = (pairs.shape[0], ceil_div(words.shape[1], constants["BLOCK"]))
    _copy_blocks[grid](words, pairs, words.stride(0), words.shape[1], **constants)
