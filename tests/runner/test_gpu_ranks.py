"""The runner for GPUs as a rank of a group: Triton's interpreter computes, gloo connects."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from glmserve.contract.shard import Stage
from glmserve.contract.step import SamplingInput, ScheduledSequence, StepInput, StepOutput
from glmserve.ops.collectives import Collectives
from glmserve.runner.gpu_runner import GpuRunner
from support import emulated_gpu
from support.emulated_gpu import EmulatedAccelerator
from support.golden import read_greedy
from support.ranks import on_stages

if os.environ.get("TRITON_INTERPRET") != "1":
    pytest.skip("kernels are compiled for a GPU here", allow_module_level=True)

TOKENS = 3


def decode(runner: GpuRunner, prompt: list[int], tokens: list[int]) -> list[list[int]]:
    """What each step chooses; the tokens that it should choose are the next one's input."""
    table = np.arange(8, dtype=np.int32).tobytes()
    chosen, start = [], 0
    for i, ids in enumerate([prompt, *([token] for token in tokens[:-1])]):
        sequence = ScheduledSequence(7, ids, start, table, SamplingInput())
        output = runner.execute(StepInput(i, [sequence]))()
        assert isinstance(output, StepOutput)
        chosen.append(output.token_ids)
        start += len(ids)
    return chosen


@pytest.mark.slow
@pytest.mark.parametrize(("stages", "size"), [(2, 1), (2, 2)])
def test_stages(golden_models: Path, stages: int, size: int) -> None:
    """The warm-up passes through them as well. Only the last one answers; none records graphs."""
    folder = golden_models / "glm2_base"
    prompts, want = read_greedy(folder)

    def work(collectives: Collectives, stage: Stage) -> list[list[int]]:
        accelerator = EmulatedAccelerator()
        runner = emulated_gpu.load(folder, accelerator, collectives, stage)
        limits = runner.info.limits
        assert (limits.steps_in_flight, limits.resolves_placeholders) == (stages, False)
        chosen = decode(runner, prompts[0], want[0][:TOKENS])
        assert (accelerator.unread, accelerator.graphs) == (0, 0)
        return chosen

    found = on_stages(stages, size, work)
    assert found[:size] == [[[]] * TOKENS] * size
    assert found[size:] == [[[token] for token in want[0][:TOKENS]]] * size
