"""What a device computes for the sequence of a golden: in chunks, then token by token, over blocks
in random order."""

from __future__ import annotations

import random
from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from glmserve.contract.step import (
    Runner,
    RunnerLimits,
    ScheduledSequence,
    ScoreInput,
    StepInput,
    StepOutput,
)
from glmserve.errors import OptionError
from glmserve.runner.inspection import InspectableRunner

_DECODES = 3
"""Tokens at the end that are computed one by one."""


def inspected_tensors(runner: InspectableRunner, token_ids: list[int]) -> dict[str, Tensor]:
    """All tensors that the runner reports, with a row for each token.

    Raises:
        OptionError: the sequence does not fit into the device's limits.
    """
    parts: dict[str, list[Tensor]] = {}
    for step in _steps(runner.info.limits, token_ids):
        runner.inspect(step, lambda name, tensor: parts.setdefault(name, []).append(tensor))
    return {name: torch.cat(tensors) for name, tensors in parts.items()}


def log_probabilities(runner: Runner, token_ids: list[int]) -> Tensor:
    """log p(token t+1 | tokens up to t) for all but the last token: float32 [T-1].

    They come from `execute`, so this is what clients are served.

    Raises:
        OptionError: the sequence does not fit into the device's limits.
    """
    found: list[float] = []
    for step in _steps(runner.info.limits, token_ids):
        sequence = step.sequences[0]
        after = sequence.start + 1
        targets = token_ids[after : after + len(sequence.token_ids)]
        scored = ScheduledSequence(
            sequence.request_id,
            sequence.token_ids,
            sequence.start,
            sequence.block_table,
            None,
            ScoreInput(targets, 0),
            layout=sequence.layout,
        )
        output = runner.execute(StepInput(step.step_id, [scored]))
        whole = output if isinstance(output, StepOutput) else output()
        found += [score.logprob for score in whole.scores[0]]
    return torch.tensor(found)


def _steps(limits: RunnerLimits, token_ids: list[int]) -> Iterator[StepInput]:
    table = _block_table(limits, len(token_ids))
    layout = None if limits.prompt_marks is None else limits.prompt_marks.layout(token_ids)
    first = 0 if layout is None else layout.context_length + 1
    start = 0
    for step_id, size in enumerate(_sizes(limits, len(token_ids), first)):
        new = token_ids[start : start + size]
        yield StepInput(step_id, [ScheduledSequence(0, new, start, table, None, layout=layout)])
        start += size


def _sizes(limits: RunnerLimits, length: int, first: int) -> Iterator[int]:
    """Tokens of each step: two chunks, or the `first` tokens that go together; then one by one."""
    decodes = min(_DECODES, length - max(1, first))
    prompt = length - decodes
    sizes = [prompt] if first or not limits.chunked_prefill else [prompt - prompt // 3, prompt // 3]
    for size in sizes:
        if first and size > limits.max_step_tokens:
            raise OptionError(
                f"this model's prompt of {size} tokens is computed in one step, and the device "
                f"computes at most {limits.max_step_tokens}"
            )
        while size > 0:
            yield min(size, limits.max_step_tokens)
            size -= limits.max_step_tokens
    yield from [1] * decodes


def _block_table(limits: RunnerLimits, length: int) -> bytes:
    """Blocks for one sequence, in random order."""
    if length > limits.max_context:
        raise OptionError(
            f"the golden has {length} tokens, and the device's context {limits.max_context}"
        )
    blocks = random.Random(0).sample(range(limits.num_blocks), -(-length // limits.block_size))
    return np.array(blocks, dtype=np.int32).tobytes()
