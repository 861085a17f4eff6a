"""Steps that a runner executes before it serves, so that no kernel is compiled while it serves."""

from __future__ import annotations

import msgspec
import numpy as np

from glmserve.contract.adapter import NO_ADAPTER
from glmserve.contract.prompt_layout import PromptLayout
from glmserve.contract.sampling import Sampling
from glmserve.contract.step import (
    PendingOutput,
    Runner,
    RunnerLimits,
    SamplingInput,
    ScheduledSequence,
    ScoreInput,
    StepInput,
    StepOutput,
)

_PROMPT_LENGTHS = (1, 2, 16, 17, 33, 64, 65, 129)
"""One for each size class for which a kernel has other tile sizes; and 16 and 64, with which a step
still is one of few rows. A scored prompt of so many tokens is not: it has one more output row."""

_VARIETY = SamplingInput(
    noise_key=1,
    sampling=Sampling(
        temperature=1.0,
        top_p=0.9,
        top_k=5,
        min_p=0.01,
        presence_penalty=0.1,
        frequency_penalty=0.1,
        repetition_penalty=1.1,
        logit_bias={0: 1.0},
    ),
    history=np.zeros(2, dtype=np.int32).tobytes(),
    prompt_length=1,
    banned=(0,),
    constrained=True,
    top_logprobs=1,
    logprob_token_ids=(0,),
)
"""Every parameter has an effect."""


def warm_up(runner: Runner, empty_adapter: int = NO_ADAPTER) -> None:
    """Execute a step of every kind: prompts of all sizes, alone and beside decodes, and all of
    sampling.

    Prompts are scored, because graphs hold no such steps: what graphs need, recording them has
    compiled. No request owns the blocks that they write to the KV cache.

    Args:
        empty_adapter: id of an adapter that changes nothing.
    """
    limits = runner.info.limits
    longest = min(limits.max_step_tokens, limits.max_context - 1, limits.token_capacity)
    for length in (longest, *(size for size in _PROMPT_LENGTHS if size < longest)):
        _run(runner, [_sequence(0, limits, 0, length, SamplingInput(), ScoreInput([0], 1))])
    if limits.max_sequences > 1 and longest > 2:
        decode = _sequence(0, limits, 0, 1, _VARIETY)
        prompt = _sequence(1, limits, 1, longest - 2, SamplingInput(), ScoreInput([0], 1))
        for adapter in {NO_ADAPTER, empty_adapter}:
            adapted = msgspec.structs.replace(prompt, adapter_id=adapter)
            _run(runner, [decode, adapted])
        # A long step with few output rows: the last layer's products are then of a class that has
        # no graph, if graphs of few rows have other kernels.
        scored = _sequence(0, limits, 0, 1, SamplingInput(), ScoreInput([0], 1))
        _run(runner, [scored, _sequence(1, limits, 0, longest - 1, SamplingInput())])


def _run(runner: Runner, sequences: list[ScheduledSequence]) -> None:
    output: StepOutput | PendingOutput = runner.execute(StepInput(0, sequences), lambda: [b""])
    if not isinstance(output, StepOutput):
        output()


def _sequence(
    request_id: int,
    limits: RunnerLimits,
    start: int,
    count: int,
    sampling: SamplingInput,
    score: ScoreInput | None = None,
) -> ScheduledSequence:
    blocks = np.arange(-(-(start + count) // limits.block_size), dtype=np.int32)
    layout = PromptLayout(start + count, 0) if limits.prompt_marks else None
    return ScheduledSequence(
        request_id, [0] * count, start, blocks.tobytes(), sampling, score, layout=layout
    )
