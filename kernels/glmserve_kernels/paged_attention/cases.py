"""Makes paged caches, in the shapes of the served models."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from glmserve_kernels.operation import Arguments, Maker, Work

NARROW = {"int8": torch.int8, "fp8": torch.float8_e4m3fn}
"""Cache dtypes by the name they have in cases."""

FP8_CHIPS = ("sm_90",)
"""sm_80 has no such conversion, gfx942 another format of this name."""


@dataclass(frozen=True)
class Heads:
    """Shapes of a model's attention."""

    query: int
    key: int
    dim: int
    block_size: int
    cache: str = ""
    """A name in NARROW; none: of the queries' dtype."""

    @property
    def name(self) -> str:
        cache = self.cache and f"-{self.cache}"
        return f"{self.query}/{self.key}x{self.dim}-block{self.block_size}{cache}"

    @property
    def dtypes(self) -> tuple[torch.dtype, ...]:
        """Of queries."""
        narrow = (torch.float16, torch.bfloat16)
        return narrow if self.cache else (torch.float32, *narrow)

    @property
    def chips(self) -> tuple[str, ...]:
        return FP8_CHIPS if self.cache == "fp8" else ("sm_80", "sm_90", "gfx942")


GLM = Heads(32, 2, 128, 64)
"""ChatGLM2, ChatGLM3 and GLM-4."""
CHATGLM_6B = Heads(32, 32, 128, 64)
GLM_32B = Heads(48, 2, 128, 64)
"""GLM-4-32B-0414."""
GLM_EDGE = Heads(16, 4, 128, 64)
SERVED = (
    GLM,
    Heads(32, 2, 128, 64, "int8"),
    Heads(32, 2, 128, 64, "fp8"),
    Heads(32, 2, 128, 16),
    Heads(32, 2, 128, 16, "int8"),
    Heads(32, 2, 128, 16, "fp8"),
    GLM_32B,
    GLM_EDGE,
    CHATGLM_6B,
    Heads(32, 32, 128, 64, "int8"),
    Heads(32, 32, 128, 64, "fp8"),
)


class New(NamedTuple):
    """New tokens of a sequence, and those in the cache before."""

    tokens: int
    cached: int = 0


def make_cache(make: Maker, heads: Heads, context_lens: list[int], gap: int = 0) -> Arguments:
    """keys, values, their scales and block_tables.

    Blocks are in random order, with `gap` heads of nothing between two. Slots beyond the contexts,
    blocks of no sequence and scales of both hold NaN, or the lowest code if the dtype has none;
    unused entries of the tables a block that does not exist.
    """
    blocks = [-(-length // heads.block_size) for length in context_lens]
    num_blocks = sum(blocks) + 2
    order = make.permutation(num_blocks)
    tables = [[order.pop() for _ in range(count)] for count in blocks]
    width = max(blocks) + 1
    filled = [table + [2**30] * (width - len(table)) for table in tables]
    block_tables = make.given(filled, torch.int32)
    contents = {
        name: _make_half(make, heads, (num_blocks, heads.key + gap), transposed=transposed)
        for name, transposed in (("keys", False), ("values", bool(heads.cache)))
    }
    if not make.is_meta:
        used = _used_slots(heads.block_size, num_blocks, tables, context_lens).to(make.device)
        for name, (codes, scales) in contents.items():
            _poison(codes.mT if heads.cache and name == "values" else codes, used)
            if scales is not None:
                _poison(scales[..., None], used)
    return {
        "keys": contents["keys"][0],
        "values": contents["values"][0],
        "key_scales": contents["keys"][1],
        "value_scales": contents["values"][1],
        "block_tables": block_tables,
    }


def _make_half(
    make: Maker, heads: Heads, blocks: tuple[int, int], *, transposed: bool
) -> tuple[Tensor, Tensor | None]:
    """Keys or values, and their scales if they have some, of this many blocks and heads in each."""
    shape = (
        (*blocks, heads.dim, heads.block_size)
        if transposed
        else (*blocks, heads.block_size, heads.dim)
    )
    if not heads.cache:
        return make.normal(*shape)[:, : heads.key], None
    scales = make.normal(*blocks, heads.block_size, dtype=torch.float32).abs() / 64 + 0.01
    if heads.cache == "int8":
        codes = make.integers(-127, 128, *shape, dtype=torch.int8)
    else:
        codes = make.normal(*shape, dtype=NARROW[heads.cache], scale=64.0)
    return codes[:, : heads.key], scales[:, : heads.key]


def _used_slots(
    block_size: int, num_blocks: int, tables: list[list[int]], context_lens: list[int]
) -> Tensor:
    """bool [num_blocks, block_size]"""
    used = torch.zeros(num_blocks, block_size, dtype=torch.bool)
    for table, length in zip(tables, context_lens, strict=True):
        position = torch.arange(length)
        used[
            torch.tensor(table, dtype=torch.int64)[position // block_size], position % block_size
        ] = True
    return used


def _poison(contents: Tensor, used: Tensor) -> None:
    """Overwrite what is not used of [num_blocks, Hkv, BLOCK_SIZE, n]."""
    is_float = contents.is_floating_point()
    poison = float("nan") if is_float else float(torch.iinfo(contents.dtype).min)
    contents.copy_(contents.float().masked_fill(~used[:, None, :, None], poison))


def cache_bytes(positions: int, keys: Tensor, key_scales: Tensor | None) -> int:
    """Of the keys and values of so many positions, and of their scales."""
    heads, dim = keys.shape[1], keys.shape[3]
    scale = 0 if key_scales is None else key_scales.element_size()
    return 2 * positions * heads * (dim * keys.element_size() + scale)


def causal_work(
    q: Tensor,
    keys: Tensor,
    key_scales: Tensor | None,
    query_start: Tensor,
    context_lens: Tensor,
    **_: Any,
) -> Work:
    """Each query sees the context before its sequence's new tokens, and half of these."""
    new = query_start.diff().long()
    positions = int((new * (context_lens - new) + new * (new + 1) // 2).sum())
    return Work(
        bytes=cache_bytes(int(context_lens.sum()), keys, key_scales)
        + 2 * q.numel() * q.element_size(),
        flops=4 * positions * q.shape[1] * q.shape[2],
    )
