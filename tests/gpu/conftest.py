"""Tests of what only a GPU shows: graphs, races, memory. Skipped where there is none."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from glmserve.config import RunnerConfig, report_nothing
from glmserve.devices.registry import select_device
from glmserve.runner.gpu_runner import GpuRunner

pytest.importorskip("triton", reason="kernels need triton, which there is for Linux only")

LoadRunner = Callable[..., GpuRunner]


@pytest.fixture(scope="session", autouse=True)
def gpu() -> torch.device:
    """The first GPU."""
    if not torch.cuda.is_available():
        pytest.skip("torch finds no GPU")
    if os.environ.get("TRITON_INTERPRET") == "1":
        pytest.skip("TRITON_INTERPRET is set: kernels would not run on the GPU")
    return torch.device("cuda", 0)


@pytest.fixture(scope="session")
def chip(gpu: torch.device) -> str:
    """Whose tiles to use."""
    from gpu_ceilings import chip_name

    return chip_name()


@pytest.fixture(scope="module")
def load_runner(gpu: torch.device) -> Iterator[LoadRunner]:
    """Loads runners as a server would; they are closed in the end."""
    loaded: list[GpuRunner] = []
    device = select_device("rocm" if torch.version.hip else "cuda")

    def load(checkpoint: Path, **options: Any) -> GpuRunner:
        small = {"kv_cache_tokens": 4096, "max_batch_size": 8, "max_step_tokens": 256}
        options = {"dtype": "float32", "block_size": 16, **small, **options}
        config = RunnerConfig(checkpoint=str(checkpoint), device=device.name, **options)
        loaded.append(device.create_runner(config, report_nothing))
        return loaded[-1]

    yield load
    for runner in loaded:
        runner.close()
    torch.cuda.empty_cache()
