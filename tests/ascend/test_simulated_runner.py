"""The ascend device over simulated calls: whole models, against what the originals computed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from glmserve.config import RunnerConfig, report_nothing
from glmserve.devices.ascend import AscendDevice
from glmserve.runner.torch_runner import TorchRunner
from support.ascend_simulator.device import SimulatedAscend, SimulatedDriver, simulated_chip
from support.decoding import Decoding
from support.exhaustive import exhaustive
from support.golden import FIRST_GENERATION, NAMES, PREFIXES, read_greedy
from support.slow import slow


def load(checkpoint: Path, **options: Any) -> TorchRunner[Any, Any]:
    options = {"dtype": "float32", "kv_cache_tokens": 2048, **options}
    config = RunnerConfig(checkpoint=str(checkpoint), device="ascend-simulated", **options)
    return SimulatedAscend().create_runner(config, report_nothing)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    ("backend", "chunk"),
    [
        ("npu", 7),
        slow("atb", 10_000),
        exhaustive("npu", 10_000),
        exhaustive("atb", 7),
        exhaustive("incre", 7),
        exhaustive("incre", 10_000),
    ],
)
def test_greedy_text_of_the_original(
    golden_models: Path, name: str, backend: str, chunk: int
) -> None:
    prompts, want = read_greedy(golden_models / name)
    runner = load(golden_models / name, attention_backend=backend)
    assert runner.info.limits.block_size == 128
    assert Decoding(runner, prompts, 64).outputs(len(want[0]), chunk) == want
    for prompt, expected in zip(prompts, want, strict=True):
        assert Decoding(runner, [prompt], 64).outputs(len(expected), chunk) == [expected]


@pytest.mark.parametrize("name", FIRST_GENERATION)
def test_prompts_that_are_read_in_both_directions(golden_models: Path, name: str) -> None:
    prompts, want = read_greedy(golden_models / name)
    runner = load(golden_models / name)
    assert Decoding(runner, prompts, 64).outputs(len(want[0])) == want


@pytest.mark.parametrize(("base", "prefix"), PREFIXES)
def test_a_learnt_prefix(golden_models: Path, base: str, prefix: str) -> None:
    prompts, want = read_greedy(golden_models / prefix)
    runner = load(golden_models / base, ptuning_checkpoint=str(golden_models / prefix))
    assert Decoding(runner, prompts, 64).outputs(len(want[0])) == want


def test_text_does_not_depend_on_the_company(golden_models: Path) -> None:
    runner = load(golden_models / "glm2_base", kv_cache_tokens=4096)
    rng = np.random.default_rng(0)
    prompts = [rng.integers(0, 48, n).tolist() for n in (1, 5, 130, 17, 2, 128, 9)]
    together = Decoding(runner, prompts, 40).outputs(30, chunk=8)
    alone = [Decoding(runner, [p], 40).outputs(30)[0] for p in prompts]
    assert together == alone


class OlderDriver(SimulatedDriver):
    """Of the 310 family, which has few of the vendor's calls."""

    def open(self, place: int) -> str:
        super().open(place)
        return "Ascend310P3"


@pytest.mark.parametrize("name", ["glm2_base", "glm2_int4", "glm1_int8"])
def test_the_older_family(golden_models: Path, name: str) -> None:
    prompts, want = read_greedy(golden_models / name)
    config = RunnerConfig(
        checkpoint=str(golden_models / name), dtype="float32", kv_cache_tokens=2048
    )
    device = AscendDevice(OlderDriver(), simulated_chip)
    runner = device.create_runner(config, report_nothing)
    assert "Ascend310P3" in runner.info.device
    assert Decoding(runner, prompts, 64).outputs(len(want[0])) == want
