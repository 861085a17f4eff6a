"""Whole models in float8: the GPU's products and the CPU's emulation of them agree."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from glmserve.config import RunnerConfig, report_nothing
from glmserve.contract.step import ScheduledSequence, ScoreInput, StepInput
from glmserve.devices.registry import select_device
from glmserve.ops.linear import float8_gpu
from glmserve.runner.gpu_runner import GpuRunner
from glmserve.runner.torch_runner import TorchRunner
from support import emulated_gpu
from support.decoding import run_step
from support.golden import read_logits
from support.slow import slow

TOLERANCE = 5e-3
"""Of log-probabilities. Both add up in another order, so a few numbers fall into the next code."""


def log_probs(runner: GpuRunner | TorchRunner, ids: list[int], chunk: int) -> list[float]:
    table = np.arange(8, dtype=np.int32).tobytes()
    found: list[float] = []
    for start in range(0, len(ids) - 1, chunk):
        part = ids[start : start + chunk]
        targets = ids[start + 1 : start + 1 + len(part)]
        score = ScoreInput(targets, 0)
        step = StepInput(0, [ScheduledSequence(0, part, start, table, None, score)])
        found += [item.logprob for item in run_step(runner, step).scores[0]]
    return found


@pytest.mark.parametrize("chunk", [slow(5), slow(1)])
def test_a_gpu_computes_what_a_cpu_emulates(
    golden_models: Path, monkeypatch: pytest.MonkeyPatch, chunk: int
) -> None:
    """With products in float32: rounded to bfloat16, as by a GPU's library, they would take other
    codes in each layer, and small random models make much of that."""
    monkeypatch.setattr(float8_gpu, "RESULT", torch.float32)
    folder = golden_models / "glm2_base"
    ids = read_logits(folder)[0][0][:9]
    gpu = emulated_gpu.load(folder, quantization="fp8")
    config = RunnerConfig(checkpoint=str(folder), device="cpu", quantization="fp8")
    cpu = select_device("cpu").create_runner(config, report_nothing)
    emulated = log_probs(cpu, ids, chunk)
    np.testing.assert_allclose(log_probs(gpu, ids, chunk), emulated, rtol=0, atol=TOLERANCE)
    plain = log_probs(emulated_gpu.load(folder), ids, chunk)
    assert np.abs(np.subtract(plain, emulated)).max() > 1e-4  # something is rounded
