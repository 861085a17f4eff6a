"""--gpu-memory-utilization: a share of all memory, for all that the server takes."""

from __future__ import annotations

from pathlib import Path

import pytest

from glmserve.config import RunnerConfig
from glmserve.errors import DeviceError
from glmserve.model_config import read_model_config
from glmserve.runner.gpu_memory import gpu_memory_budget, refuse_unfree_budget
from support import emulated_gpu

GIB = 2**30


def config_of(share: float | None) -> RunnerConfig:
    return RunnerConfig(checkpoint="", gpu_memory_utilization=share)


@pytest.mark.parametrize(("share", "budget"), [(None, 80), (1.0, 80), (0.5, 40), (0.25, 20)])
def test_a_share_is_of_the_total(share: float | None, budget: int) -> None:
    assert gpu_memory_budget(config_of(share), 80 * GIB) == budget * GIB


def test_a_share_that_is_not_free_is_refused() -> None:
    with pytest.raises(DeviceError, match=r"0\.5 asks for 40\.0 GiB, 30\.0 GiB of 80\.0 GiB"):
        refuse_unfree_budget(config_of(0.5), 30 * GIB, 80 * GIB)


@pytest.mark.parametrize("share", [None, 0.25])
def test_less_than_that_is_fine(share: float | None) -> None:
    refuse_unfree_budget(config_of(share), 30 * GIB, 80 * GIB)


@pytest.mark.slow
def test_weights_activations_and_cache_keep_to_it(golden_models: Path) -> None:
    """The share is small enough to bound the cache, which has room for every request else."""
    options: dict[str, object] = {"kv_cache_tokens": None, "max_batch_size": 3}
    checkpoint = golden_models / "glm2_bin_sharded"
    total = emulated_gpu.EmulatedAccelerator().total_memory()
    runner = emulated_gpu.load(checkpoint, **options)
    whole, config = runner.info, read_model_config(checkpoint)
    few_rows = runner._ops.few_rows
    rows = whole.limits.max_step_tokens
    scratch = few_rows.scratch_bytes(rows, config.hidden_size, config.head_dim)
    # As the plan has it, for steps and for graphs; their other tensors are small beside it.
    workspace = 2**29 + 2 * scratch
    taken = workspace + whole.weight_bytes + whole.kv_cache_bytes // 2
    share = taken / total
    half = emulated_gpu.load(checkpoint, gpu_memory_utilization=share, **options).info
    assert 0 < half.kv_cache_bytes < whole.kv_cache_bytes
    assert workspace + half.weight_bytes + half.kv_cache_bytes <= share * total
