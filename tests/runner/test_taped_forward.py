"""Kernels that are called from a tape compute the bits that they compute from Python."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest
import torch

from glmserve.config import RunnerConfig, report_nothing
from glmserve.contract.step import SamplingInput
from glmserve.devices.cpu import CpuDevice
from glmserve.runner.taped_forward import TapedForward
from glmserve.runner.torch_runner import TorchRunner
from support.decoding import Decoding
from support.golden import NAMES, read_greedy
from support.native import native_library
from support.tiny_models import BASE, random_weights, write_checkpoint

ASKING = SamplingInput(top_logprobs=3)
"""Reports log-probabilities, so that more than the chosen token is compared."""


@pytest.fixture(autouse=True)
def needs_kernels() -> None:
    native_library()


def load(checkpoint: Path, **options: Any) -> TorchRunner[Any, Any]:
    options = {"dtype": "float32", "kv_cache_tokens": 32768, "threads": 1, **options}
    config = RunnerConfig(checkpoint=str(checkpoint), device="cpu", **options)
    return CpuDevice().create_runner(config, report_nothing)


def without_tapes(runner: TorchRunner[Any, Any]) -> TorchRunner[Any, Any]:
    assert runner._model is not None
    runner._forward = runner._model.forward
    return runner


def tapes(runner: TorchRunner[Any, Any]) -> list[int]:
    """The numbers of tokens that were recorded."""
    forward = runner._forward
    assert isinstance(forward, TapedForward)
    return sorted(forward._tapes)


def decoded(runner: TorchRunner[Any, Any], batches: list[int]) -> list[list[list[int]]]:
    """Texts of batches of these sizes, one after the other, of prompts of different lengths."""
    rng, found = random.Random(0), []
    for size in batches:
        prompts = [[rng.randrange(3, 40) for _ in range(1 + 3 * i)] for i in range(size)]
        found.append(Decoding(runner, prompts, 32).outputs(6))
    return found


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"dtype": "bfloat16"},
        {"kv_cache_dtype": "int8"},
        {"quantization": "w8a8", "dtype": "bfloat16"},
    ],
    ids=["float32", "bfloat16", "int8 cache", "w8a8"],
)
def test_batches_of_any_size(tmp_path: Path, options: dict[str, Any]) -> None:
    """Also when a larger batch makes the arena larger, and smaller ones come back."""
    checkpoint = write_checkpoint(tmp_path, BASE, random_weights(BASE))
    batches = [1, 3, 1, 64, 3, 2, 64]
    runner = load(checkpoint, **options)
    assert decoded(runner, batches) == decoded(without_tapes(load(checkpoint, **options)), batches)
    assert tapes(runner) == [1, 2, 3, 64]


@pytest.mark.parametrize("name", NAMES)
def test_log_probabilities_of_the_reference_models(golden_models: Path, name: str) -> None:
    reports = []
    for keep in (True, False):
        runner = load(golden_models / name)
        if not keep:
            without_tapes(runner)
        runner._answers.answer = reporting(runner, found := [])  # type: ignore[method-assign]
        Decoding(runner, [[5, 6, 7], [9]], 32).outputs(5)
        if keep:
            assert tapes(runner) == [2]
        reports.append(torch.stack(found))
    assert torch.equal(*reports)


def reporting(runner: TorchRunner[Any, Any], found: list[torch.Tensor]) -> Any:
    """The runner's answers, whose logits are kept."""
    runner._greedy = None
    answer = runner._answers.answer

    def keep(step: Any, logits: torch.Tensor, *others: Any) -> Any:
        found.append(logits.clone())
        return answer(step, logits, *others)

    return keep


def test_more_rows_than_a_tape_holds(tmp_path: Path) -> None:
    checkpoint = write_checkpoint(tmp_path, BASE, random_weights(BASE))
    runner = load(checkpoint, max_batch_size=100)
    assert decoded(runner, [65]) == decoded(without_tapes(load(checkpoint)), [65])
    assert tapes(runner) == []


def test_a_model_with_other_operations_is_computed_from_python(golden_models: Path) -> None:
    """ChatGLM-6B's norms and residual are torch's."""
    folder = golden_models / "glm1_base"
    prompts, want = read_greedy(folder)
    runner = load(folder)
    assert Decoding(runner, prompts, 64).outputs(len(want[0])) == want
    assert tapes(runner) == []


def test_torchs_kernels_have_no_tapes(tmp_path: Path) -> None:
    checkpoint = write_checkpoint(tmp_path, BASE, random_weights(BASE))
    runner = load(checkpoint, cpu_kernels="torch")
    assert not isinstance(runner._forward, TapedForward)
