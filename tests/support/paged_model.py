"""Drives a model over a paged cache whose every unused slot is NaN."""

from __future__ import annotations

import dataclasses
from itertools import count
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from glmserve.adapters import digest
from glmserve.config import KvCacheDType, Quantization, RunnerConfig, report_nothing
from glmserve.contract.adapter import NO_ADAPTER, AdapterSource
from glmserve.contract.prompt_layout import PromptLayout
from glmserve.contract.shard import ALL_LAYERS, Group, Stage
from glmserve.contract.step import SamplingInput, ScheduledSequence, StepInput
from glmserve.model_config import ModelConfig, read_model_config
from glmserve.model_config.sharding import local_config
from glmserve.models.packing import pack_parameters
from glmserve.models.parts import part_of
from glmserve.models.prefix import load_prefix
from glmserve.models.registry import build_model
from glmserve.models.weights import load_weights
from glmserve.ops.ascend.select_ops import make_ascend_ops
from glmserve.ops.attention.kv_store import Int8Cache, make_store
from glmserve.ops.attention.npu_cache import NpuCache
from glmserve.ops.attention.npu_int8 import NpuInt8Cache
from glmserve.ops.attention.paged_cache import PagedCache
from glmserve.ops.attention.sdpa import CpuSdpaAttention, SdpaAttention
from glmserve.ops.attention.slot_cache import SlotBackend
from glmserve.ops.base import AnyOps, Ops
from glmserve.ops.collectives import ALONE, Collectives
from glmserve.ops.cpu.select_ops import NativeKernels, make_cpu_ops
from glmserve.ops.cpu.torch_ops import TorchCpuOps
from glmserve.ops.gpu.select_ops import make_ops
from glmserve.ops.inputs import upload
from glmserve.runner.adapters import make_adapters, prefixes_of, room_of, slots_of
from glmserve.runner.batch import build_batch
from glmserve_cpu_kernels.attention import SUBBLOCK, KvCache
from support.ascend_simulator.device import simulated_chip
from support.ascend_simulator.library import register
from support.emulated_gpu import GPU
from support.native import native_library

CPU = torch.device("cpu")

Operations = Literal["plain", "packed", "native", "triton", "ascend"]
"""plain: ops/base.py; packed: torch's CPU kernels; native: our own for CPUs; triton: a GPU's;
ascend: an NPU's, simulated."""


@dataclasses.dataclass
class PagedSequence:
    block_table: bytes
    length: int = 0
    layout: PromptLayout | None = None
    """That of the tokens in the first step."""
    adapter_id: int = NO_ADAPTER


class PagedModel:
    """A model from a checkpoint, its cache poisoned, its blocks handed out in random order."""

    def __init__(
        self,
        checkpoint: Path,
        *,
        operations: Operations = "packed",
        dtype: torch.dtype = torch.float32,
        block_size: int | None = None,
        num_blocks: int = 64,
        kv_cache_dtype: KvCacheDType = "auto",
        quantization: Quantization | None = None,
        ptuning: Path | None = None,
        collectives: Collectives = ALONE,
        stage: Stage = ALL_LAYERS,
        ordered: bool = False,
        adapters: int = 0,
        max_lora_rank: int = 64,
        max_prefix_length: int = 0,
        deterministic: bool = False,
    ) -> None:
        whole = read_model_config(checkpoint, None, ptuning and str(ptuning))
        options = RunnerConfig(
            checkpoint=str(checkpoint),
            kv_cache_dtype=kv_cache_dtype,
            pipeline_parallel_size=stage.size,
            group=Group(collectives.shard, "", stage),
            max_adapters=adapters,
            max_lora_rank=max_lora_rank,
            max_prefix_length=max_prefix_length,
            deterministic=deterministic,
        )
        room = room_of(options)
        part = part_of(options, whole, dtype.itemsize, quantization)
        config = local_config(whole, part)
        self.block_size = block_size or {"native": SUBBLOCK, "ascend": 128}.get(operations, 16)
        self.ops = make_operations(operations, options, config, dtype, self.block_size)
        stored = load_weights(whole, checkpoint, dtype, CPU, report_nothing, part)
        parameters = pack_parameters(stored, config, self.ops, quantization, ordered=ordered)
        longest = config.max_context + max_prefix_length
        self.model = build_model(config, parameters, self.ops, longest, collectives, room)
        self._adapter_ids = count(1)
        self.marks = config.prompt_marks
        self.free = np.random.default_rng(0).permutation(num_blocks).astype(np.int32)
        self.caches = self.ops.attention.allocate(config.num_layers, num_blocks, config.head_dim)
        for cache in self.caches:
            poison(cache)
        self.adapters = make_adapters(
            options, self.model, whole, part, dtype, self.ops.attention, self.caches
        )
        if config.prefix is not None:
            assert isinstance(self.ops.attention, SlotBackend)
            prefix = load_prefix(whole, config.prefix, dtype, part)
            self.ops.attention.write_prefix(self.caches, prefix)

    def sequence(self, tokens: int) -> PagedSequence:
        """Blocks for one sequence of that many tokens."""
        needed = -(-tokens // self.block_size)
        table, self.free = self.free[:needed], self.free[needed:]
        assert len(table) == needed, "not enough blocks"
        return PagedSequence(table.tobytes())

    def load_adapter(self, folder: Path) -> int:
        """Read an adapter, and put it into a slot: its id."""
        assert self.adapters is not None
        adapter_id = next(self._adapter_ids)
        self.adapters.read(AdapterSource(adapter_id, str(folder), digest(folder)))()
        return adapter_id

    @torch.inference_mode()
    def feed(self, *work: tuple[PagedSequence, list[int]]) -> list[NDArray[np.float32]]:
        """One step over new tokens of several sequences: logits [n, V] of each; [n, 0] in a stage
        that is not the last."""
        for sequence, ids in work:
            if self.marks is not None and not sequence.length:
                sequence.layout = self.marks.layout(ids)
        step = StepInput(
            0,
            [
                ScheduledSequence(
                    i,
                    ids,
                    s.length,
                    s.block_table,
                    SamplingInput(),
                    layout=s.layout,
                    adapter_id=s.adapter_id,
                )
                for i, (s, ids) in enumerate(work)
            ],
        )
        slots, prefixes = slots_of(self.adapters), prefixes_of(self.adapters)
        batch = build_batch(step, self.block_size, slots, prefixes)
        last_rows = batch.output_rows
        every_row = np.arange(len(batch.input_ids))
        batch = dataclasses.replace(batch, output_rows=every_row)
        inputs = upload(batch, self.ops, self.caches[0])
        hidden = self.model.forward(inputs, self.caches)
        if hidden is None:  # a later stage has them
            logits = np.empty((len(every_row), 0), np.float32)
        else:
            logits = self.model.logits(hidden).numpy()
        for sequence, ids in work:
            sequence.length += len(ids)
        return [
            logits[last + 1 - len(ids) : last + 1]
            for last, (_, ids) in zip(last_rows, work, strict=True)
        ]

    def logits(
        self, ids: list[int], chunk: int | None = None, adapter_id: int = NO_ADAPTER
    ) -> NDArray[np.float32]:
        """[len(ids), V], computed `chunk` tokens at a time."""
        sequence, chunk = self.sequence(len(ids)), chunk or len(ids)
        sequence.adapter_id = adapter_id
        parts = [self.feed((sequence, ids[i : i + chunk]))[0] for i in range(0, len(ids), chunk)]
        return np.concatenate(parts)

    def continued(
        self, prompts: list[list[int]], answers: list[list[int]], chunk: int
    ) -> list[NDArray[np.float32]]:
        """Logits of sequences side by side: each prompt whole, then `chunk` tokens at a time."""
        lengths = [len(p) + len(a) for p, a in zip(prompts, answers, strict=True)]
        sequences = [self.sequence(length) for length in lengths]
        parts = [[logits] for logits in self.feed(*zip(sequences, prompts, strict=True))]
        for start in range(0, len(answers[0]), chunk):
            new = [answer[start : start + chunk] for answer in answers]
            for part, logits in zip(
                parts, self.feed(*zip(sequences, new, strict=True)), strict=True
            ):
                part.append(logits)
        return [np.concatenate(part) for part in parts]


def make_operations(
    operations: Operations,
    options: RunnerConfig,
    config: ModelConfig,
    dtype: torch.dtype,
    block_size: int,
) -> AnyOps:
    """Those that are asked for; without native ones the test is skipped."""
    if operations == "triton":
        return make_ops(options, config, dtype, block_size, GPU)
    if operations == "ascend":
        register()
        return make_ascend_ops(
            options, config, dtype, block_size, CPU, simulated_chip("Ascend910B3")
        )
    if operations == "native":
        kernels = NativeKernels(native_library(), "")
        return make_cpu_ops(options, config, dtype, block_size, kernels)
    store = make_store(options.kv_cache_dtype, dtype)
    prefix = (config.prefix_length, options.prefix_slots)
    where = (config.num_kv_heads, dtype, CPU, block_size, store, *prefix)
    if operations == "plain":
        return Ops(SdpaAttention(*where))
    return TorchCpuOps(CpuSdpaAttention(*where), dtype)


def poison(cache: Any) -> None:
    """Make every slot NaN, but for the null slot of those that have one."""
    match cache:
        case PagedCache(keys, values, None, None):
            keys.fill_(torch.nan)
            values.fill_(torch.nan)
        case PagedCache(_, _, key_scales, value_scales):
            key_scales.fill_(torch.nan)
            value_scales.fill_(torch.nan)
        case NpuCache(keys, values):
            keys.fill_(torch.nan)
            values.fill_(torch.nan)
        case NpuInt8Cache(_, key_scales, value_scales):
            key_scales.fill_(torch.nan)
            value_scales.fill_(torch.nan)
        case Int8Cache(_, scales):
            scales[:-1] = torch.nan
        case KvCache(scales=None):
            poison_numbers(cache)
        case KvCache():
            cache.scales.fill_(torch.nan)
        case Tensor():
            cache[:-1] = torch.nan


def poison_numbers(cache: KvCache) -> None:
    """All but the padding of heads, which nobody ever writes."""
    blocks, heads, _, size = cache.numbers.shape
    per_step = 4 // cache.numbers.element_size()
    dims = torch.arange(size // SUBBLOCK)
    keys, values = cache.numbers.unbind(2)
    padding = (dims >= cache.dim).view(-1, 1, per_step).expand(-1, SUBBLOCK, -1)
    keys.view(blocks, heads, -1, SUBBLOCK, per_step).masked_fill_(~padding, torch.nan)
    padding = (
        (dims >= cache.dim).view(-1, 1, SUBBLOCK, 1).expand(-1, SUBBLOCK // per_step, -1, per_step)
    )
    values.view(blocks, heads, *padding.shape).masked_fill_(~padding, torch.nan)
