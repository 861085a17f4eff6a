"""Shapes for paged_prefill."""

from __future__ import annotations

from functools import partial
from itertools import accumulate

import numpy as np
import torch

from glmserve_kernels.operation import Arguments, Case, Maker, Operation
from glmserve_kernels.paged_attention.cases import (
    CHATGLM_6B,
    GLM,
    SERVED,
    Heads,
    New,
    causal_work,
    make_cache,
)
from glmserve_kernels.paged_prefill.kernel import paged_prefill
from glmserve_kernels.paged_prefill.reference import paged_prefill as reference
from glmserve_kernels.paged_prefill.split_plan import query_tiles, tokens_per_tile
from glmserve_kernels.tiles import CHIPS, load_tiles


def _make(
    make: Maker,
    *,
    heads: Heads,
    sequences: list[New],
    tile: int,
    padding: int = 0,
) -> Arguments:
    """In tiles of `tile` tokens. `padding` more tokens than the sequences have, items than there
    are tiles, numbers between two tokens' queries, and heads between two blocks."""
    lens = [new.tokens for new in sequences]
    contexts = [new.tokens + new.cached for new in sequences]
    tokens, used = sum(lens) + padding, heads.query * heads.dim
    shape = (tokens, heads.query, heads.dim)
    items = query_tiles(np.array(lens), tile).tolist() + [[-1, -1]] * padding
    return {
        "q": make.normal(tokens, used + padding)[:, :used].view(shape),
        **make_cache(make, heads, contexts, gap=padding),
        "query_start": make.given([0, *accumulate(lens)], torch.int32),
        "context_lens": make.given(contexts, torch.int32),
        "items": make.given(items, torch.int32),
        "tokens_per_tile": tile,
        "out": make.poisoned(*shape),
        "scale": heads.dim**-0.5,
    }


def _case(heads: Heads, sequences: list[New], tile: int, padding: int = 0) -> Case:
    lengths = ",".join(f"{new.cached}+{new.tokens}" for new in sequences)
    make = partial(_make, heads=heads, sequences=sequences, tile=tile, padding=padding)
    return Case(f"{heads.name}-{lengths}", make, dtypes=heads.dtypes, chips=heads.chips)


def _served(heads: Heads, sequences: list[New], chip: str) -> Case:
    tiles = load_tiles("paged_prefill", chip)[f"{8 if heads.cache else 16}-bit cache"]
    tile = tokens_per_tile(heads.query // heads.key, tiles)
    first = sequences[0]
    return Case(
        f"{heads.name}-{len(sequences)}x{first.cached}+{first.tokens}",
        partial(_make, heads=heads, sequences=sequences, tile=tile),
        dtypes=(torch.bfloat16, torch.float16),
        expects={"sm_80": ("LDGSTS128", "!LDSU8"), "sm_90": ("HGMMA", "LDGSTS128", "!LDSU8")},
        chips=(chip,),
    )


def _all_served(chip: str) -> tuple[Case, ...]:
    shapes = [heads for heads in SERVED if chip in heads.chips]
    return (
        *(_served(heads, [New(8192)], chip) for heads in shapes),
        _served(GLM, [New(512, 3584)] * 8, chip),
        _served(CHATGLM_6B, [New(512, 3584)] * 8, chip),
    )


OPERATION = Operation(
    name="paged_prefill",
    launch=paged_prefill,
    reference=reference,
    outputs=("out",),
    cases=(
        _case(
            Heads(4, 2, 32, 16),
            [New(1), New(15), New(0), New(17, 16), New(1, 40), New(20, 31)],
            tile=8,
            padding=8,
        ),
        _case(Heads(16, 1, 128, 64), [New(5, 62), New(66)], tile=8),
        _case(Heads(1, 1, 64, 32), [New(33, 100)], tile=16),
        _case(Heads(3, 1, 80, 32), [New(31, 32), New(3)], tile=21),
        _case(Heads(2, 2, 16, 128), [New(2, 126), New(30, 64)], tile=64),
        _case(Heads(4, 2, 64, 16, "int8"), [New(33, 70), New(16)], tile=32),
        _case(Heads(16, 1, 48, 64, "int8"), [New(3, 63)], tile=4),
        _case(Heads(4, 2, 64, 16, "fp8"), [New(33, 70), New(16)], tile=32),
        _case(Heads(16, 1, 48, 64, "fp8"), [New(3, 63)], tile=4),
    ),
    served=tuple(case for chip in CHIPS for case in _all_served(chip)),
    work=causal_work,
)
