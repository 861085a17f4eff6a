"""Greedy steps without logits choose what the logits say."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from glmserve.config import RunnerConfig, report_nothing
from glmserve.contract.sampling import Sampling
from glmserve.contract.step import (
    INVALID_TOKEN_ID,
    SamplingInput,
    ScheduledSequence,
    ScoreInput,
    StepInput,
)
from glmserve.devices.cpu import CpuDevice
from glmserve.runner.answers import is_greedy
from glmserve.runner.torch_runner import TorchRunner
from support.decoding import Decoding
from support.golden import NAMES, read_greedy
from support.native import native_library
from support.tiny_models import BASE, random_weights, write_checkpoint

PROMPTS = [[5, 6, 7], [9], [11, 12, 13, 14, 15], [30]]


def load(checkpoint: Path, **options: Any) -> TorchRunner[Any, Any]:
    native_library()
    options = {"dtype": "float32", "kv_cache_tokens": 4096, "threads": 1, **options}
    config = RunnerConfig(checkpoint=str(checkpoint), device="cpu", **options)
    return CpuDevice().create_runner(config, report_nothing)


def texts(runner: TorchRunner[Any, Any], chunk: int = 10_000) -> list[list[int]]:
    return Decoding(runner, PROMPTS, 32).outputs(12, chunk)


@pytest.mark.parametrize("name", NAMES)
def test_the_reference_texts(golden_models: Path, name: str) -> None:
    prompts, want = read_greedy(golden_models / name)
    runner = load(golden_models / name)
    assert runner._greedy is not None
    assert Decoding(runner, prompts, 64).outputs(len(want[0])) == want


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"dtype": "bfloat16"},
        {"quantization": "w8a8", "dtype": "bfloat16"},
        {"vocab_limit": 20},
        {"never_sampled": tuple(range(0, 40, 3))},
        {"vocab_limit": 30, "never_sampled": (1, 2, 29, 35)},
    ],
    ids=["float32", "bfloat16", "w8a8", "a limit", "ids that are never chosen", "both"],
)
@pytest.mark.parametrize("chunk", [2, 10_000])
def test_as_with_logits(tmp_path: Path, options: dict[str, Any], chunk: int) -> None:
    checkpoint = write_checkpoint(tmp_path, BASE, random_weights(BASE))
    quick, whole = load(checkpoint, **options), load(checkpoint, **options)
    assert quick._greedy is not None
    whole._greedy = None
    assert texts(quick, chunk) == texts(whole, chunk)


def test_a_row_that_is_not_finite(tmp_path: Path) -> None:
    checkpoint = write_checkpoint(tmp_path, BASE, random_weights(BASE))
    greedy = load(checkpoint)._greedy
    assert greedy is not None
    hidden = torch.randn(3, BASE["hidden_size"])
    hidden[1, 5] = float("nan")
    ids = greedy(hidden)
    assert [token == INVALID_TOKEN_ID for token in ids] == [False, True, False]
    assert greedy(hidden[:0]) == []


@pytest.mark.parametrize("options", [{"cpu_kernels": "torch"}])
def test_other_kernels_store_logits(tmp_path: Path, options: dict[str, Any]) -> None:
    checkpoint = write_checkpoint(tmp_path, BASE, random_weights(BASE))
    assert load(checkpoint, **options)._greedy is None


def step(*sampling: SamplingInput | None, **options: Any) -> StepInput:
    sequences = [
        ScheduledSequence(i, [1, 2], 0, bytes(4), s, **options) for i, s in enumerate(sampling)
    ]
    return StepInput(0, sequences)


PLAIN = SamplingInput()


@pytest.mark.parametrize(
    "given",
    [
        step(PLAIN),
        step(PLAIN, None),
        step(SamplingInput(sampling=Sampling(temperature=0, top_p=0.5))),
    ],
)
def test_steps_that_are_greedy(given: StepInput) -> None:
    assert is_greedy(given)


@pytest.mark.parametrize(
    "given",
    [
        step(PLAIN, SamplingInput(sampling=Sampling(temperature=0.5))),
        step(PLAIN, SamplingInput(sampling=Sampling(repetition_penalty=1.1))),
        step(PLAIN, SamplingInput(sampling=Sampling(logit_bias={3: 1.0}))),
        step(SamplingInput(banned=(2,))),
        step(SamplingInput(constrained=True)),
        step(SamplingInput(top_logprobs=0)),
        step(PLAIN, score=ScoreInput([3], 0)),
        step(None, pool=True),
    ],
)
def test_steps_that_are_not(given: StepInput) -> None:
    assert not is_greedy(given)
