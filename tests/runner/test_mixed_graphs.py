"""Steps with prompts in them, replayed from graphs: the same answers as kernel by kernel, whatever
shares the step. Padding is NaN here, see emulated_gpu."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from glmserve.contract.step import SamplingInput, ScheduledSequence, StepInput
from glmserve.runner.gpu_runner import GpuRunner
from support import emulated_gpu
from support.decoding import Decoding, run_step
from support.emulated_gpu import EmulatedAccelerator
from support.exhaustive import exhaustive
from support.golden import read_greedy

ASK = SamplingInput(top_logprobs=4)
MODEL = "glm2_bin_sharded"
PROMPTS = ([5, 9, 2, 30, 41], [7, 1, 8], [22, 3, 17, 40])


def table(*blocks: int) -> bytes:
    return np.array(blocks, dtype=np.int32).tobytes()


def sequence(i: int, ids: list[int], start: int = 0) -> ScheduledSequence:
    """Of request i, in a block of its own."""
    return ScheduledSequence(i, ids, start, table(i), ASK)


def logprobs(runner: GpuRunner, *sequences: ScheduledSequence) -> list[tuple[list[int], Any]]:
    """What is reported for each sequence, after a step that it reads has been computed."""
    output = run_step(runner, StepInput(0, list(sequences)))
    found = [item for item in output.logprobs if item is not None]
    return [(item.top_ids, [item.logprob, *item.top_logprobs]) for item in found]


@pytest.fixture(scope="module")
def accelerator() -> EmulatedAccelerator:
    return EmulatedAccelerator()


@pytest.fixture(scope="module", params=["plain", exhaustive("int8 cache"), exhaustive("int4")])
def runner(
    request: pytest.FixtureRequest, golden_models: Path, accelerator: EmulatedAccelerator
) -> GpuRunner:
    options: dict[str, Any] = {
        "plain": {},
        "int8 cache": {"kv_cache_dtype": "int8"},
        "int4": {"quantization": "int4"},
    }[request.param]
    return emulated_gpu.load(golden_models / MODEL, accelerator, **options)


def test_company_and_padding_change_nothing(
    runner: GpuRunner, accelerator: EmulatedAccelerator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A decode, a chunk behind a chunk, and a prompt, by a graph and kernel by kernel."""

    def answers() -> list[tuple[list[int], Any]]:
        run_step(runner, StepInput(0, [sequence(0, PROMPTS[0])]))
        run_step(runner, StepInput(0, [sequence(1, PROMPTS[1][:1])]))
        mixed = [
            sequence(1, PROMPTS[1][1:], start=1),
            sequence(0, [12], start=5),
            sequence(2, PROMPTS[2]),
        ]
        found = logprobs(runner, *mixed)
        for one in mixed:
            found += logprobs(runner, one)
        return found

    before = accelerator.replays
    by_graphs = answers()
    assert accelerator.replays == before + 6
    monkeypatch.setattr(runner, "_graphs", None)
    eager = answers()
    assert accelerator.replays == before + 6
    for (ids, values), (want_ids, want) in zip(by_graphs, eager, strict=True):
        assert ids == want_ids
        np.testing.assert_allclose(values, want, rtol=0, atol=2e-5)
    for (ids, values), (alone_ids, alone) in zip(by_graphs[:3], by_graphs[3:], strict=True):
        assert ids == alone_ids
        np.testing.assert_allclose(values, alone, rtol=0, atol=2e-5)


@pytest.mark.slow
def test_deterministic_bits_are_those_of_steps_kernel_by_kernel(
    golden_models: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    accelerator = EmulatedAccelerator()
    runner = emulated_gpu.load(golden_models / MODEL, accelerator, deterministic=True)
    mixed = [sequence(0, PROMPTS[0]), sequence(1, [7]), sequence(2, PROMPTS[2])]
    together = logprobs(runner, *mixed)
    assert accelerator.replays == 1
    monkeypatch.setattr(runner, "_graphs", None)
    assert logprobs(runner, *mixed) == together
    assert [logprobs(runner, one)[0] for one in mixed] == together


@pytest.mark.exhaustive
@pytest.mark.parametrize("name", ["glm2_mha", "glm4_base", "glm2_bin_sharded"])
def test_greedy_texts_through_larger_graphs(golden_models: Path, name: str) -> None:
    """Three prompts a step, of up to 64 tokens together; then chunks beside decodes."""
    prompts, want = read_greedy(golden_models / name)
    accelerator = EmulatedAccelerator()
    runner = emulated_gpu.load(
        golden_models / name, accelerator, max_step_tokens=64, kv_cache_tokens=512
    )
    assert Decoding(runner, prompts[:3], 4).outputs(3, chunk=20) == [t[:3] for t in want[:3]]
    assert accelerator.replays > 3
