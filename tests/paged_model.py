"""Drives a model over a paged cache whose every unused slot is NaN."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from glmserve.model_config import read_model_config
from glmserve.models.registry import build_model
from glmserve.models.weights import load_weights
from glmserve.ops.attention import AttentionBackend
from glmserve.ops.base import Ops
from glmserve.ops.batch import Batch
from glmserve.ops.cpu import CpuAttention, CpuOps
from glmserve.runner.batch import build_batch
from glmserve.step import SamplingInput, ScheduledSequence, StepInput

CPU = torch.device("cpu")


@dataclasses.dataclass
class PagedSequence:
    block_table: bytes
    length: int = 0


class PagedModel:
    """A model from a checkpoint, its cache poisoned, its blocks handed out in random order."""

    def __init__(
        self,
        checkpoint: Path,
        *,
        packed: bool = True,
        dtype: torch.dtype = torch.float32,
        block_size: int = 16,
        num_blocks: int = 64,
    ) -> None:
        config = read_model_config(checkpoint)
        attention = CpuAttention if packed else AttentionBackend
        ops = CpuOps if packed else Ops
        self.ops = ops(attention(config.num_kv_heads, dtype, CPU))
        parameters = load_weights(config, checkpoint, dtype, CPU, lambda done, total: None)
        self.model = build_model(config, parameters, self.ops, config.max_context)
        self.block_size = block_size
        self.free = np.random.default_rng(0).permutation(num_blocks).astype(np.int32)
        slots = num_blocks * block_size
        self.caches = self.ops.attention.allocate(config.num_layers, slots, config.head_dim)
        self._poison(slots, config.num_kv_heads, config.head_dim, dtype)

    def sequence(self, tokens: int) -> PagedSequence:
        """Blocks for one sequence of that many tokens."""
        count = -(-tokens // self.block_size)
        table, self.free = self.free[:count], self.free[count:]
        assert len(table) == count, "not enough blocks"
        return PagedSequence(table.tobytes())

    @torch.inference_mode()
    def feed(self, *work: tuple[PagedSequence, list[int]]) -> list[NDArray[np.float32]]:
        """One step over new tokens of several sequences: logits [n, V] of each."""
        step = StepInput(
            0,
            [
                ScheduledSequence(i, ids, sequence.length, sequence.block_table, SamplingInput())
                for i, (sequence, ids) in enumerate(work)
            ],
        )
        batch = build_batch(step, self.block_size)
        every_row = np.arange(len(batch.input_ids))
        hidden = self.model.forward(dataclasses.replace(batch, output_rows=every_row), self.caches)
        logits = self.model.logits(hidden).numpy()
        for sequence, ids in work:
            sequence.length += len(ids)
        return [
            logits[last + 1 - len(ids) : last + 1]
            for last, (_, ids) in zip(batch.output_rows, work, strict=True)
        ]

    def logits(self, ids: list[int], chunk: int | None = None) -> NDArray[np.float32]:
        """[len(ids), V], computed `chunk` tokens at a time."""
        sequence, chunk = self.sequence(len(ids)), chunk or len(ids)
        parts = [self.feed((sequence, ids[i : i + chunk]))[0] for i in range(0, len(ids), chunk)]
        return np.concatenate(parts)

    def _poison(self, slots: int, num_kv_heads: int, head_dim: int, dtype: torch.dtype) -> None:
        one = np.zeros(1, dtype=np.int64)
        everywhere = Batch(
            input_ids=one,
            positions=one,
            slot_mapping=np.arange(slots),
            query_start=np.array([0, 1]),
            context_lens=one + 1,
            block_tables=one[None],
            block_size=self.block_size,
            num_decodes=1,
            output_rows=one,
        )
        nan = torch.full((slots, 2 * num_kv_heads, head_dim), float("nan"), dtype=dtype)
        for cache in self.caches:
            self.ops.attention.write(nan, cache, self.ops.attention.plan(everywhere, cache))
