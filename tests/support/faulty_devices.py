"""Devices with one fault each, as ports of new accelerators have them: the cpu device, spoilt."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import msgspec
import torch
from torch import Tensor

from glmserve.config import ReportProgress, RunnerConfig
from glmserve.contract.adapter import AdapterSource
from glmserve.contract.step import (
    MaskSource,
    ScheduledSequence,
    StepInput,
    StepOutput,
    no_masks,
)
from glmserve.devices.base import DeviceInfo
from glmserve.devices.cpu import CpuDevice
from glmserve.runner.torch_runner import TorchRunner

Fault = Callable[[TorchRunner[Any, Any]], Any]
"""Spoils a runner; returns what takes its place, or None."""


class FaultyDevice:
    """The cpu device with torch's kernels, and a fault."""

    name = "faulty"
    serves_adapters = True

    def __init__(self, fault: Fault) -> None:
        self._fault = fault

    def probe(self) -> DeviceInfo:
        return DeviceInfo(True, "for tests")

    def create_runner(self, config: RunnerConfig, progress: ReportProgress) -> Any:
        config = msgspec.structs.replace(config, cpu_kernels="torch")
        runner = CpuDevice().create_runner(config, progress)
        return self._fault(runner) or runner


class _Changed:
    """A runner whose steps or outputs are changed."""

    def __init__(self, runner: Any) -> None:
        self.info = runner.info
        self._runner = runner

    def execute(self, step: StepInput, masks: MaskSource = no_masks) -> StepOutput:
        output: StepOutput = self._runner.execute(self.changed(step), masks)
        return output

    def changed(self, step: StepInput) -> StepInput:
        return step

    def read_adapter(self, source: AdapterSource) -> Callable[[], None]:
        install: Callable[[], None] = self._runner.read_adapter(source)
        return install

    def remove_adapter(self, adapter_id: int) -> None:
        self._runner.remove_adapter(adapter_id)

    def close(self) -> None:
        self._runner.close()


def wrong_rotary_pairs(runner: TorchRunner[Any, Any]) -> None:
    """Pairs (i, i + R/2) rotate in place of (2i, 2i + 1)."""
    ops = runner._ops
    original = ops.rope

    def rope(heads: Tensor, rows: Tensor) -> None:
        rotary = heads[..., : 2 * rows.shape[-1]]
        paired = torch.stack(rotary.chunk(2, dim=-1), dim=-1).flatten(-2)
        original(paired, rows)
        rotary.copy_(torch.cat((paired[..., 0::2], paired[..., 1::2]), dim=-1))

    ops.rope = rope  # type: ignore[method-assign]


def next_slot(runner: TorchRunner[Any, Any]) -> _Changed:
    """What a step after the first writes lands one slot too far."""
    attention = runner._ops.attention
    original = attention.plan

    def plan(batch: Any, cache: Any) -> Any:
        later = batch.positions > 0
        slots = batch.slot_mapping + later * (batch.positions == batch.context_lens.max() - 1)
        return original(dataclasses.replace(batch, slot_mapping=slots), cache)

    attention.plan = plan
    return _Changed(runner)


def leaking_lane(runner: TorchRunner[Any, Any]) -> _Changed:
    """The last text of a batch reads the first block of the text before it."""

    class Leaking(_Changed):
        def changed(self, step: StepInput) -> StepInput:
            *others, last = step.sequences
            if not others or not last.start:
                return step
            table = others[-1].block_table[:4] + last.block_table[4:]
            leaking = msgspec.structs.replace(last, block_table=table)
            return StepInput(step.step_id, [*others, leaking])

    return Leaking(runner)


def more_sequences_than_computed(runner: TorchRunner[Any, Any]) -> _Changed:
    """The limits promise eight sequences; from the fifth on, token 0 is read."""

    class Four(_Changed):
        def changed(self, step: StepInput) -> StepInput:
            right, wrong = step.sequences[:4], step.sequences[4:]
            zeros = [msgspec.structs.replace(s, token_ids=[0] * len(s.token_ids)) for s in wrong]
            return StepInput(step.step_id, [*right, *zeros])

    return Four(runner)


def more_tokens_than_computed(runner: TorchRunner[Any, Any]) -> _Changed:
    """The limits promise steps of 512 tokens; from the 300th on, token 0 is read."""

    class Shorter(_Changed):
        def changed(self, step: StepInput) -> StepInput:
            cut = [
                msgspec.structs.replace(
                    s, token_ids=s.token_ids[:300] + [0] * len(s.token_ids[300:])
                )
                for s in step.sequences
            ]
            return StepInput(step.step_id, cut)

    return Shorter(runner)


def masked_by_zero(runner: TorchRunner[Any, Any]) -> None:
    """V is multiplied by weights of 0 where it is not visible: 0 * NaN is NaN."""
    attention = runner._ops.attention
    original = attention.run

    def run(qkv: Tensor, cache: Any, plan: Any) -> Tensor:
        everything = sum(float(part.float().sum() * 0) for part in _tensors(cache))
        return original(qkv, cache, plan) + everything

    attention.run = run


def _tensors(cache: Any) -> list[Tensor]:
    return [cache] if isinstance(cache, Tensor) else [t for t in cache if isinstance(t, Tensor)]


def _with_rule(sequence: ScheduledSequence, **fields: Any) -> ScheduledSequence:
    sampling = sequence.sampling and msgspec.structs.replace(sequence.sampling, **fields)
    return msgspec.structs.replace(sequence, sampling=sampling)


def ignored_masks(runner: TorchRunner[Any, Any]) -> _Changed:
    class Unmasked(_Changed):
        def changed(self, step: StepInput) -> StepInput:
            free = [_with_rule(s, constrained=False) for s in step.sequences]
            return StepInput(step.step_id, free)

    return Unmasked(runner)


def one_list_of_ids(runner: TorchRunner[Any, Any]) -> _Changed:
    """All sequences of a step report the ids that the first of them asks for."""

    class First(_Changed):
        def changed(self, step: StepInput) -> StepInput:
            asking = [s.sampling for s in step.sequences if s.sampling]
            ids = asking[0].logprob_token_ids if asking else ()
            same = [
                _with_rule(s, logprob_token_ids=ids[: len(s.sampling.logprob_token_ids)])
                if s.sampling
                else s
                for s in step.sequences
            ]
            return StepInput(step.step_id, same)

    return First(runner)


def numbers_by_place(runner: TorchRunner[Any, Any]) -> _Changed:
    """The random numbers of a token depend on its place in the batch."""

    class Placed(_Changed):
        def changed(self, step: StepInput) -> StepInput:
            placed = [
                _with_rule(s, noise_key=s.sampling.noise_key + i) if s.sampling else s
                for i, s in enumerate(step.sequences)
            ]
            return StepInput(step.step_id, placed)

    return Placed(runner)


def one_adapter_for_all(runner: TorchRunner[Any, Any]) -> _Changed:
    """All sequences of a step have the adapter of its last one."""

    class Same(_Changed):
        def changed(self, step: StepInput) -> StepInput:
            last = step.sequences[-1].adapter_id
            same = [msgspec.structs.replace(s, adapter_id=last) for s in step.sequences]
            return StepInput(step.step_id, same)

    return Same(runner)


def adapters_that_stay(runner: TorchRunner[Any, Any]) -> _Changed:
    """A removed adapter stays where the next one should be."""

    class Stale(_Changed):
        def __init__(self, runner: Any) -> None:
            super().__init__(runner)
            self._known: dict[int, int] = {}

        def remove_adapter(self, adapter_id: int) -> None:
            self._known[adapter_id + 2] = adapter_id

        def read_adapter(self, source: AdapterSource) -> Callable[[], None]:
            return (lambda: None) if source.id in self._known else super().read_adapter(source)

        def changed(self, step: StepInput) -> StepInput:
            old = [
                msgspec.structs.replace(s, adapter_id=self._known.get(s.adapter_id, s.adapter_id))
                for s in step.sequences
            ]
            return StepInput(step.step_id, old)

    return Stale(runner)


def immortal(runner: TorchRunner[Any, Any]) -> _Changed:
    """It answers after it was closed."""

    class Immortal(_Changed):
        def close(self) -> None:
            pass

    return Immortal(runner)
