"""How many requests run at the same time on a GPU, unless an option says it."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from glmserve.config import RunnerConfig
from glmserve.devices import cuda
from glmserve.model_config import read_model_config
from glmserve.runner.limits import CacheMemory, MemoryNeeds

GIB = 2**30


@pytest.mark.parametrize(
    ("memory", "options", "expected"),
    [
        (24 * GIB, {}, 64),
        (80 * GIB, {}, 256),
        (80 * GIB, {"max_batch_size": 100}, 100),
        (80 * GIB, {"max_step_tokens": 128}, 128),
        (24 * GIB, {"max_step_tokens": 32}, 32),
    ],
)
def test_a_large_gpu_runs_more(
    monkeypatch: pytest.MonkeyPatch, memory: int, options: dict[str, int], expected: int
) -> None:
    properties = SimpleNamespace(total_memory=memory)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: properties)
    config = cuda._with_batch_size(RunnerConfig(checkpoint="x", **options))  # type: ignore[arg-type]
    assert config.batch_size == expected


def test_a_plan_has_the_devices_choice(golden_models: Path) -> None:
    model = read_model_config(golden_models / "glm2_base")
    cache = CacheMemory(available=GIB, share=0.9, token_bytes=2**10, block_size=16)
    needs = MemoryNeeds("bfloat16", 0, 0, 0, GIB, cache, 2048, batch_size=256)
    assert needs.plan(RunnerConfig(checkpoint="x"), model).max_sequences == 256
