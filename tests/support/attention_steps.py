"""One step of any attention backend against plain softmax attention per token."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from glmserve.contract.prompt_layout import PromptLayout
from glmserve.contract.step import ScheduledSequence, StepInput
from glmserve.ops.attention.backend import AnyAttentionBackend
from glmserve.ops.batch import Batch
from glmserve.runner.batch import build_batch
from support.paged_model import poison


@dataclass
class Case:
    """One step over sequences of (tokens before, new tokens)."""

    sequences: list[tuple[int, int]]
    heads: int = 4
    kv_heads: int = 2
    dim: int = 8
    block_size: int = 4
    dtype: torch.dtype = torch.float32
    contexts: list[int] | None = None
    """Tokens at the beginning of each sequence that all of it sees."""
    spread: float = 1.0
    """Standard deviation of scores."""


def run_step(
    case: Case, make: Callable[[Case], AnyAttentionBackend], seed: int = 0
) -> tuple[Tensor, Tensor]:
    """What the backend gives, and what it should: [T, heads, dim]."""
    whole = _whole_sequences(case, seed)
    want = [_reference(whole[i], case, i)[case.sequences[i][0] :] for i in _order(case)]
    return compute_step(case, make, seed), torch.cat(want)


def compute_step(case: Case, make: Callable[[Case], AnyAttentionBackend], seed: int = 0) -> Tensor:
    """What the backend gives over a cache full of NaN: [T, heads, dim]."""
    attention, whole = make(case), _whole_sequences(case, seed)
    counts = [-(-(before + new) // case.block_size) for before, new in case.sequences]
    blocks = np.random.default_rng(seed).permutation(sum(counts) + 3).astype(np.int32)
    tables = np.split(blocks, np.cumsum(counts))[:-1]
    cache = attention.allocate(1, len(blocks), case.dim)[0]
    poison(cache)
    for i, (before, _) in enumerate(case.sequences):
        if before:
            earlier = _batch(dataclasses.replace(case, contexts=None), [(0, before)], [tables[i]])
            _write(attention, earlier, whole[i][:before], cache, case)
    batch = _batch(case, case.sequences, tables)
    qkv = torch.cat([whole[i][case.sequences[i][0] :] for i in _order(case)])
    plan = _write(attention, batch, qkv, cache, case)
    return attention.run(qkv, cache, plan)


def _whole_sequences(case: Case, seed: int) -> list[Tensor]:
    """Queries, keys and values of each: [tokens, heads + 2 * kv_heads, dim]."""
    generator = torch.Generator().manual_seed(seed)
    heads = case.heads + 2 * case.kv_heads
    found = [
        torch.randn(before + new, heads, case.dim, generator=generator)
        for before, new in case.sequences
    ]
    for qkv in found:
        qkv[:, : case.heads] *= case.spread
    return [qkv.to(case.dtype) for qkv in found]


def _batch(case: Case, sequences: list[tuple[int, int]], tables: list[Any]) -> Batch:
    layouts = [PromptLayout(n, 0) for n in case.contexts or ()] or [None] * len(sequences)
    scheduled = [
        ScheduledSequence(i, [0] * new, before, table.tobytes(), None, layout=layouts[i])
        for i, ((before, new), table) in enumerate(zip(sequences, tables, strict=True))
    ]
    return build_batch(StepInput(0, scheduled), case.block_size)


def _write(
    attention: AnyAttentionBackend, batch: Batch, qkv: Tensor, cache: Any, case: Case
) -> Any:
    plan = attention.plan(batch, cache)
    attention.write(qkv[:, case.heads :], cache, plan)
    return plan


def _order(case: Case) -> list[int]:
    """Sequences as build_batch has them: decodes by falling context, then the rest."""
    decodes = [i for i, (_, new) in enumerate(case.sequences) if new == 1]
    decodes.sort(key=lambda i: -case.sequences[i][0])
    return decodes + [i for i in range(len(case.sequences)) if i not in decodes]


def _reference(qkv: Tensor, case: Case, index: int) -> Tensor:
    """Attention of one whole sequence in float64: [L, heads, dim]."""
    q, k, v = qkv.double().split([case.heads, case.kv_heads, case.kv_heads], dim=1)
    group = case.heads // case.kv_heads
    k, v = k.repeat_interleave(group, 1), v.repeat_interleave(group, 1)
    scores = torch.einsum("thd,shd->hts", q, k) / case.dim**0.5
    beyond = torch.ones(len(q), len(q)).triu(1).bool()
    if case.contexts is not None:
        beyond[:, : case.contexts[index]] = False
    return torch.einsum("hts,shd->thd", scores.masked_fill(beyond, -torch.inf).softmax(-1), v)
