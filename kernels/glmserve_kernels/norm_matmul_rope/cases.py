"""Shapes for norm_matmul_rope."""

from __future__ import annotations

from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor

from glmserve_kernels.few_rows.cases import (
    PRODUCT,
    Codes,
    make_normed,
    make_scratch,
    make_weight,
    suffix,
    weight_bytes,
)
from glmserve_kernels.few_rows.plan import ROW_CLASSES
from glmserve_kernels.norm_matmul_rope.kernel import norm_matmul_rope, split_heads
from glmserve_kernels.norm_matmul_rope.reference import norm_matmul_rope as reference
from glmserve_kernels.operation import Arguments, Case, Maker, Operation, Work
from glmserve_kernels.rope_cache.cases import CODES
from glmserve_kernels.rope_cache.cases import make_arguments as make_rope_arguments
from glmserve_kernels.tiles import CHIPS, load_tiles


class Shape(NamedTuple):
    """Of a product and of what attention reads."""

    rows: int
    width: int
    heads: int
    kv_heads: int
    dim: int
    rotary: int
    block_size: int
    cache: torch.dtype | None = None
    """None: of the activations."""

    @property
    def name(self) -> str:
        heads = f"{self.heads}+{self.kv_heads}x{self.dim}-{self.rotary}"
        cache = f"-{self.cache}".replace("torch.", "") if self.cache else ""
        return f"{self.rows}x{self.width}-{heads}-{self.block_size}{cache}"


def make_arguments(
    make: Maker,
    *,
    shape: Shape,
    codes: Codes | None = None,
    bias: bool = False,
    padding: int = 0,
    max_positions: int = 100,
) -> Arguments:
    """`padding` more columns than are used lie between two rows of each matrix of numbers."""
    geometry = shape._asdict()
    rows, width = geometry.pop("rows"), geometry.pop("width")
    rope = make_rope_arguments(
        make, tokens=rows, **geometry, padding=padding, max_positions=max_positions
    )
    outputs = rope.pop("qkv")[0].numel()
    num_heads = rope.pop("num_heads")
    weight = make_weight(make, outputs, width, codes, padding)
    tables = [load_tiles("norm_matmul_rope", chip) for chip in CHIPS]
    return {
        **make_normed(make, rows, width, padding),
        **weight,
        "bias": make.normal(outputs) if bias else None,
        **rope,
        "queries": make.poisoned(rows, num_heads, shape.dim),
        **make_scratch(
            make,
            [split_heads(rows, **weight, head_dim=shape.dim, tiles=tiles) for tiles in tables],
        ),
    }


def _case(
    rows: int,
    width: int,
    heads: tuple[int, int],
    dims: tuple[int, int],
    block_size: int,
    cache: torch.dtype | None = None,
    codes: Codes | None = None,
    **more: Any,
) -> Case:
    """`heads`: of queries, of keys. `dims`: of a head, rotated."""
    shape = Shape(rows, width, *heads, *dims, block_size, cache)
    name = shape.name + suffix(codes, **more)
    make = partial(make_arguments, shape=shape, codes=codes, **more)
    return Case(name, make, tolerance=CODES if cache else None)


def _served(
    rows: int, kv_heads: int, cache: torch.dtype | None = None, codes: Codes | None = None
) -> Case:
    shape = Shape(rows, 4096, 32, kv_heads, 128, 64, 64, cache)
    return Case(
        shape.name + suffix(codes),
        partial(make_arguments, shape=shape, codes=codes, bias=True, max_positions=32768),
        dtypes=(torch.bfloat16, torch.float16),
        expects=PRODUCT,
        chips=("sm_90",) if cache == torch.float8_e4m3fn else None,
    )


_CODES = (Codes(8), Codes(4), Codes(4, 128), Codes(4, 32))
_SERVED = (
    *(_served(rows, 2) for rows in (1, *ROW_CLASSES)),
    *(_served(rows, 2, torch.int8) for rows in (1, 16, 64)),
    *(_served(rows, 2, codes=codes) for rows in (16, 64) for codes in _CODES),
    *(_served(32, 2, codes=codes) for codes in _CODES[:2]),
    *(_served(rows, 2, torch.int8, Codes(4)) for rows in (16, 64)),
    *(_served(rows, 2, torch.float8_e4m3fn) for rows in (16, 64)),
    *(_served(rows, 32) for rows in (16, 64)),
)
_EVERY = (
    *(
        _served(rows, 2, cache, codes)
        for rows in ROW_CLASSES
        for cache in (None, torch.int8)
        for codes in (None, *_CODES)
    ),
    _served(32, 2, torch.float8_e4m3fn),
)
"""Kinds of weights and caches for each number of rows."""


def _work(x: Tensor, weight: Tensor, scales: Tensor | None, **_: Any) -> Work:
    outputs = len(x) * len(weight)
    return Work(
        bytes=x.nbytes + weight_bytes(weight, scales) + outputs * x.element_size(),
        flops=2 * x.numel() * len(weight),
    )


OPERATION = Operation(
    name="norm_matmul_rope",
    launch=norm_matmul_rope,
    reference=reference,
    outputs=("queries", "keys", "values", "key_scales", "value_scales"),
    scratch=("partial", "arrivals"),
    cases=(
        _case(1, 1, (1, 1), (2, 2), 16),
        _case(5, 128, (4, 2), (32, 16), 64, bias=True),
        _case(16, 1100, (3, 1), (80, 80), 32, bias=True, padding=3),
        _case(9, 128, (4, 2), (64, 32), 64, torch.int8, bias=True),
        _case(3, 100, (2, 2), (22, 6), 16, torch.int8),
        _case(9, 128, (2, 1), (64, 32), 32, torch.float8_e4m3fn),
        _case(3, 1120, (2, 1), (32, 16), 16, codes=Codes(8), bias=True),
        _case(3, 1120, (2, 1), (32, 16), 16, codes=Codes(4)),
        _case(2, 256, (2, 1), (32, 16), 16, codes=Codes(4, 128)),
        _case(17, 300, (3, 1), (22, 6), 16, bias=True, padding=3),
        _case(33, 288, (2, 1), (32, 16), 16, torch.int8, Codes(8), bias=True),
        _case(64, 600, (1, 1), (20, 12), 32, bias=True),
        _case(64, 320, (2, 1), (32, 16), 16, codes=Codes(4, 32)),
    ),
    served=_SERVED,
    compiled=tuple(case for case in _EVERY if case.name not in {c.name for c in _SERVED}),
    work=_work,
)
