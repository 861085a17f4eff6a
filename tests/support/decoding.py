"""Drives a runner directly, without a scheduler."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from glmserve.contract.adapter import NO_ADAPTER
from glmserve.contract.step import (
    MaskSource,
    Runner,
    SamplingInput,
    ScheduledSequence,
    StepInput,
    StepOutput,
    no_masks,
)

GREEDY = SamplingInput()


def run_step(runner: Runner, step: StepInput, masks: MaskSource = no_masks) -> StepOutput:
    """Execute a step and wait for what comes out of it."""
    output = runner.execute(step, masks)
    return output if isinstance(output, StepOutput) else output()


class Decoding:
    """Requests that grow token by token, each over its own shuffled blocks."""

    def __init__(
        self,
        runner: Runner,
        prompts: list[list[int]],
        room: int,
        adapters: list[int] | None = None,
    ) -> None:
        self.runner = runner
        self.adapters = adapters or [NO_ADAPTER] * len(prompts)
        limits = runner.info.limits
        blocks = np.random.default_rng(1).permutation(limits.num_blocks).astype(np.int32)
        per_request = -(-(max(map(len, prompts)) + room) // limits.block_size)
        self.tables = [
            blocks[i * per_request : (i + 1) * per_request].tobytes() for i in range(len(prompts))
        ]
        assert len(prompts) * per_request <= limits.num_blocks
        self.tokens = [list(p) for p in prompts]
        self.prompt_lengths = [len(p) for p in prompts]
        self.computed = [0] * len(prompts)
        marks = limits.prompt_marks
        self.layouts = [None if marks is None else marks.layout(p) for p in prompts]

    def step(self, chunk: int, sampling: Callable[[int], SamplingInput] | None = None) -> None:
        """Compute up to `chunk` tokens of each; sample for those with nothing left to compute."""
        sequences = []
        for i, tokens in enumerate(self.tokens):
            new = tokens[self.computed[i] :][:chunk]
            complete = self.computed[i] + len(new) == len(tokens)
            how = (sampling(i) if sampling else GREEDY) if complete else None
            sequences.append(
                ScheduledSequence(
                    i,
                    new,
                    self.computed[i],
                    self.tables[i],
                    how,
                    layout=self.layouts[i],
                    adapter_id=self.adapters[i],
                )
            )
            self.computed[i] += len(new)
        output = iter(run_step(self.runner, StepInput(7, sequences)).token_ids)
        for tokens, sequence in zip(self.tokens, sequences, strict=True):
            if sequence.sampling is not None:
                tokens.append(next(output))
        assert next(output, None) is None

    def outputs(self, count: int, chunk: int = 10_000) -> list[list[int]]:
        """The first `count` new tokens of each."""
        while min(map(len, self._new())) < count:
            self.step(chunk)
        return [new[:count] for new in self._new()]

    def _new(self) -> list[list[int]]:
        return [t[n:] for t, n in zip(self.tokens, self.prompt_lengths, strict=True)]
