"""A token's attention has the same bits however its sequence is cut into steps and batches."""

from __future__ import annotations

from itertools import accumulate
from typing import NamedTuple

import numpy as np
import pytest
import torch
from torch import Tensor

from glmserve_kernels.batch_invariant_attention.kernel import (
    batch_invariant_attention,
    count_arrivals,
)
from glmserve_kernels.batch_invariant_attention.split_plan import max_items, split_step
from glmserve_kernels.operation import Arguments, Maker
from glmserve_kernels.paged_attention.cases import Heads, make_cache
from glmserve_kernels.tiles import load_tiles

PIECE = 64
LENGTHS = (150, 90)
"""Of two sequences: the first is looked at, the second keeps it company."""


class Chunk(NamedTuple):
    """Tokens that a step computes."""

    sequence: int
    first: int
    end: int


STEPS = {
    "chunks": [
        [Chunk(0, 0, 63)],
        [Chunk(1, 0, 41), Chunk(0, 63, 64), Chunk(1, 41, 44)],
        [Chunk(0, 64, 131), Chunk(1, 44, 45)],
        [Chunk(0, 131, 133)],
        [Chunk(0, 133, 150)],
    ],
    "single tokens": [[Chunk(0, at, at + 1) for at in (0, 15, 16, 63, 64, 65, 127, 128, 149)]],
    "other rows of a tile": [[Chunk(0, first, first + 3) for first in (1, 62, 63, 126)]],
    "in company": [[Chunk(1, 89, 90), Chunk(0, 149, 150), Chunk(1, 0, 33), Chunk(0, 140, 149)]],
}


class Model(NamedTuple):
    """Everything about the sequences that no step changes."""

    heads: Heads
    cache: Arguments
    queries: list[Tensor]
    chip: str

    def step(self, chunks: list[Chunk]) -> list[Tensor]:
        """The attention of each chunk's tokens."""
        queries = np.array([chunk.end - chunk.first for chunk in chunks])
        contexts = np.array([chunk.end for chunk in chunks])
        group = self.heads.query // self.heads.key
        num_items = max_items(queries, int(contexts.max()), group, PIECE)
        items, item_start = split_step(
            queries, contexts, num_items, group=group, block_size=self.heads.block_size, piece=PIECE
        )
        q = torch.cat([self.queries[chunk.sequence][chunk.first : chunk.end] for chunk in chunks])
        make = Maker(q.device, q.dtype)
        tables = self.cache["block_tables"]
        out = make.poisoned(*q.shape)
        arrivals = make.given([0] * count_arrivals(num_items, self.heads.key), torch.int32)
        batch_invariant_attention(
            **{**self.cache, "block_tables": tables[[chunk.sequence for chunk in chunks]]},
            q=q,
            query_start=make.given([0, *accumulate(queries.tolist())], torch.int32),
            context_lens=make.given(contexts.tolist(), torch.int32),
            items=make.given(items.tolist(), torch.int32),
            item_start=make.given(item_start.tolist(), torch.int32),
            piece=PIECE,
            partial_out=make.poisoned(num_items, *q.shape[1:], dtype=torch.float32),
            partial_top=make.poisoned(num_items, q.shape[1], dtype=torch.float32),
            partial_total=make.poisoned(num_items, q.shape[1], dtype=torch.float32),
            arrivals=arrivals,
            out=out,
            scale=0.3,
            tiles=load_tiles("batch_invariant_attention", self.chip),
        )
        assert not arrivals.any(), "the next launch would count from there"
        return list(out.split(queries.tolist()))


MODELS = {
    "float32": (Heads(4, 2, 32, 16), torch.float32),
    "bfloat16": (Heads(4, 1, 32, 64), torch.bfloat16),
    "int8": (Heads(3, 1, 32, 32, "int8"), torch.float16),
}


@pytest.fixture(scope="module", params=MODELS)
def whole(
    request: pytest.FixtureRequest, device: torch.device, chip: str
) -> tuple[Model, list[Tensor]]:
    """A model, and the attention of its sequences, each computed at once and alone."""
    heads, dtype = MODELS[request.param]
    make = Maker(device, dtype)
    cache = make_cache(make, heads, list(LENGTHS))
    queries = [make.normal(length, heads.query, heads.dim) for length in LENGTHS]
    model = Model(heads, cache, queries, chip)
    found = [model.step([Chunk(i, 0, length)])[0] for i, length in enumerate(LENGTHS)]
    return model, found


@pytest.mark.parametrize("name", STEPS)
def test_steps_change_no_bit(whole: tuple[Model, list[Tensor]], name: str) -> None:
    model, expected = whole
    for chunks in STEPS[name]:
        for chunk, found in zip(chunks, model.step(chunks), strict=True):
            wanted = expected[chunk.sequence][chunk.first : chunk.end]
            assert found.isfinite().all()
            assert torch.equal(found, wanted), chunk
