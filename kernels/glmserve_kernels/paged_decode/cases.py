"""Shapes for paged_decode."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from glmserve_kernels.operation import Arguments, Case, Maker, Operation, Work
from glmserve_kernels.paged_attention.cases import (
    CHATGLM_6B,
    GLM,
    SERVED,
    Heads,
    cache_bytes,
    make_cache,
)
from glmserve_kernels.paged_decode.kernel import count_arrivals, paged_decode
from glmserve_kernels.paged_decode.reference import paged_decode as reference
from glmserve_kernels.paged_decode.split_plan import max_fixed_items, max_items, split_contexts

_PROGRAMS = 3 * 132
"""That an H200 runs at the same time."""


def _make(
    make: Maker, *, heads: Heads, context_lens: list[int], piece: int | None, padding: int = 0
) -> Arguments:
    """`padding` more numbers than are used lie between two tokens' queries and outputs, and as many
    heads between two blocks."""
    batch = len(context_lens)
    if piece is None:
        num_items = max_items(batch, heads.key, _PROGRAMS)
    else:
        num_items = max_fixed_items(batch, max(context_lens), piece)
    items, item_start = split_contexts(
        np.array(context_lens), num_items, block_size=heads.block_size, piece=piece
    )
    used, shape = heads.query * heads.dim, (batch, heads.query, heads.dim)
    return {
        "q": make.normal(batch, used + padding)[:, :used].view(shape),
        **make_cache(make, heads, context_lens, gap=padding),
        "items": make.given(items.tolist(), torch.int32),
        "item_start": make.given(item_start.tolist(), torch.int32),
        "partial_out": make.poisoned(num_items, heads.query, heads.dim, dtype=torch.float32),
        "partial_lse": make.poisoned(num_items, heads.query, dtype=torch.float32),
        "arrivals": make.given([0] * count_arrivals(num_items, heads.key), torch.int32),
        "out": make.poisoned(batch, used + padding)[:, :used].view(shape),
        "scale": heads.dim**-0.5,
    }


def _case(heads: Heads, context_lens: list[int], piece: int | None, padding: int = 0) -> Case:
    lengths = ",".join(str(length) for length in context_lens)
    make = partial(_make, heads=heads, context_lens=context_lens, piece=piece, padding=padding)
    name = f"{heads.name}-{lengths}-{f'pieces of {piece}' if piece else 'balanced'}"
    return Case(name, make, dtypes=heads.dtypes, chips=heads.chips)


def _served(heads: Heads, batch: int, context: int) -> Case:
    instructions = ("LDGSTS128", "!LDSU8")
    return Case(
        f"{heads.name}-{batch}x{context}",
        partial(_make, heads=heads, context_lens=[context] * batch, piece=None),
        dtypes=(torch.bfloat16, torch.float16),
        expects={"sm_80": instructions, "sm_90": instructions},
        chips=heads.chips,
    )


def _work(q: Tensor, keys: Tensor, key_scales: Tensor | None, items: Tensor, **_: Any) -> Work:
    positions = int((items[:, 2] - items[:, 1]).sum())
    return Work(
        bytes=cache_bytes(positions, keys, key_scales) + 2 * q.numel() * q.element_size(),
        flops=4 * positions * q.shape[1] * q.shape[2],
    )


OPERATION = Operation(
    name="paged_decode",
    launch=paged_decode,
    reference=reference,
    outputs=("out",),
    scratch=("partial_out", "partial_lse", "arrivals"),
    cases=(
        _case(Heads(4, 2, 32, 16), [1, 15, 0, 16, 17, 50], piece=16, padding=8),
        _case(Heads(4, 2, 32, 16), [70, 0, 129], piece=None),
        _case(Heads(16, 1, 128, 64), [130, 63], piece=64),
        _case(Heads(2, 1, 16, 16), [257, 30], piece=16),
        _case(Heads(3, 1, 80, 32), [33, 31], piece=32),
        _case(Heads(2, 2, 16, 128), [100, 129], piece=None),
        _case(Heads(4, 2, 64, 16, "int8"), [1, 40, 0, 97], piece=32),
        _case(Heads(16, 1, 48, 64, "int8"), [65], piece=64),
        _case(Heads(4, 2, 64, 16, "fp8"), [1, 40, 0, 97], piece=32),
        _case(Heads(16, 1, 48, 64, "fp8"), [65], piece=64),
    ),
    served=(
        *(_served(heads, 64, 4096) for heads in SERVED),
        _served(GLM, 1, 32768),
        _served(CHATGLM_6B, 1, 32768),
    ),
    work=_work,
)
