"""Shapes for batch_invariant_attention."""

from __future__ import annotations

from functools import partial
from itertools import accumulate

import numpy as np
import torch

from glmserve_kernels.batch_invariant_attention.kernel import (
    batch_invariant_attention,
    count_arrivals,
)
from glmserve_kernels.batch_invariant_attention.reference import (
    batch_invariant_attention as reference,
)
from glmserve_kernels.batch_invariant_attention.split_plan import PIECE, max_items, split_step
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


def _make(
    make: Maker, *, heads: Heads, sequences: list[New], piece: int, padding: int = 0
) -> Arguments:
    """`padding` more tokens than the sequences have, and items than they need."""
    lens = [new.tokens for new in sequences]
    contexts = [new.tokens + new.cached for new in sequences]
    group = heads.query // heads.key
    num_items = padding + max_items(np.array(lens), max(contexts), group, piece)
    items, item_start = split_step(
        np.array(lens),
        np.array(contexts),
        num_items,
        group=group,
        block_size=heads.block_size,
        piece=piece,
    )
    shape = (sum(lens) + padding, heads.query, heads.dim)
    return {
        "q": make.normal(*shape),
        **make_cache(make, heads, contexts),
        "query_start": make.given([0, *accumulate(lens)], torch.int32),
        "context_lens": make.given(contexts, torch.int32),
        "items": make.given(items.tolist(), torch.int32),
        "item_start": make.given(item_start.tolist(), torch.int32),
        "piece": piece,
        "partial_out": make.poisoned(num_items, heads.query, heads.dim, dtype=torch.float32),
        "partial_top": make.poisoned(num_items, heads.query, dtype=torch.float32),
        "partial_total": make.poisoned(num_items, heads.query, dtype=torch.float32),
        "arrivals": make.given([0] * count_arrivals(num_items, heads.key), torch.int32),
        "out": make.poisoned(*shape),
        "scale": heads.dim**-0.5,
    }


def _case(heads: Heads, sequences: list[New], piece: int, padding: int = 0) -> Case:
    lengths = ",".join(f"{new.cached}+{new.tokens}" for new in sequences)
    make = partial(_make, heads=heads, sequences=sequences, piece=piece, padding=padding)
    return Case(f"{heads.name}-{lengths}", make, dtypes=heads.dtypes, chips=heads.chips)


def _served(heads: Heads, sequences: list[New]) -> Case:
    first = sequences[0]
    instructions = ("LDGSTS128", "!LDSU8")
    return Case(
        f"{heads.name}-{len(sequences)}x{first.cached}+{first.tokens}",
        partial(_make, heads=heads, sequences=sequences, piece=PIECE),
        dtypes=(torch.bfloat16, torch.float16),
        expects={"sm_80": instructions, "sm_90": ("HGMMA", *instructions)},
        chips=heads.chips,
    )


OPERATION = Operation(
    name="batch_invariant_attention",
    launch=batch_invariant_attention,
    reference=reference,
    outputs=("out", "partial_out", "partial_top", "partial_total"),
    scratch=("arrivals",),
    cases=(
        _case(
            Heads(4, 2, 32, 16),
            [New(1), New(17, 16), New(0), New(1, 99), New(1, -1), New(40, 31)],
            piece=64,
            padding=2,
        ),
        _case(Heads(16, 1, 128, 64), [New(5, 126), New(1, 127)], piece=128),
        _case(Heads(3, 1, 80, 32), [New(30, 40), New(1, 64)], piece=64),
        _case(Heads(1, 1, 16, 128), [New(3, 127)], piece=128),
        _case(Heads(4, 2, 64, 16, "int8"), [New(3, 62), New(1, 69)], piece=64),
        _case(Heads(4, 2, 64, 64, "fp8"), [New(3, 62), New(1, 69)], piece=64),
    ),
    served=(
        *(_served(heads, [New(1, 4095)] * 64) for heads in SERVED),
        _served(GLM, [New(1, 32767)]),
        _served(GLM, [New(8192)]),
        _served(CHATGLM_6B, [New(8192)]),
    ),
    work=causal_work,
)
