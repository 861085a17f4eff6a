"""Runners that hold prefixes of adapters."""

from __future__ import annotations

from pathlib import Path

import pytest

from glmserve.adapters import digest
from glmserve.config import RunnerConfig, report_nothing
from glmserve.contract.adapter import AdapterRunner, AdapterSource
from glmserve.devices.cpu import CpuDevice
from glmserve.errors import AdapterError
from glmserve.model_config import read_model_config
from glmserve.runner.torch_runner import TorchRunner
from support import emulated_gpu
from support.decoding import Decoding
from support.golden import read_greedy

LENGTHS = {"max_adapters": 2, "max_prefix_length": 20}


def make_runner(checkpoint: Path, **options: object) -> TorchRunner:
    config = RunnerConfig(
        checkpoint=str(checkpoint),
        device="cpu",
        dtype="float32",
        kv_cache_tokens=512,
        max_batch_size=4,
        **options,  # type: ignore[arg-type]
    )
    return CpuDevice().create_runner(config, report_nothing)


def load(runner: AdapterRunner, adapter_id: int, folder: Path) -> None:
    runner.read_adapter(AdapterSource(adapter_id, str(folder), digest(folder)))()


def check_texts(runner: TorchRunner, golden_models: Path, adapters: dict[int, str]) -> None:
    """Texts of prefixes, LoRAs and the model, side by side."""
    read = {number: read_greedy(golden_models / name) for number, name in adapters.items()}
    prompts = [prompts[0] for prompts, _ in read.values()]
    got = Decoding(runner, prompts, 9, [*adapters]).outputs(8, chunk=3)
    assert got == [answers[0][:8] for _, answers in read.values()]


@pytest.mark.parametrize("options", [{}, {"deterministic": True}, {"cpu_kernels": "torch"}])
def test_side_by_side(golden_models: Path, options: dict[str, object]) -> None:
    runner = make_runner(golden_models / "glm_hf", **LENGTHS, **options)
    load(runner, 5, golden_models / "glm_hf_prefix")
    load(runner, 9, golden_models / "glm_hf_lora")
    check_texts(runner, golden_models, {5: "glm_hf_prefix", 0: "glm_hf", 9: "glm_hf_lora"})
    runner.remove_adapter(5)
    load(runner, 6, golden_models / "glm_hf_prefix_proj")
    check_texts(runner, golden_models, {6: "glm_hf_prefix_proj", 9: "glm_hf_lora", 0: "glm_hf"})


def test_a_released_cache_keeps_prefixes(golden_models: Path) -> None:
    runner = make_runner(golden_models / "glm_hf", **LENGTHS)
    load(runner, 5, golden_models / "glm_hf_prefix")
    for _ in range(2):
        check_texts(runner, golden_models, {5: "glm_hf_prefix", 0: "glm_hf"})
        runner.release_cache()


def test_places_are_used_again(golden_models: Path) -> None:
    runner = make_runner(golden_models / "glm_hf", **LENGTHS)
    names = ["glm_hf_prefix", "glm_hf_prefix_proj"]
    for number in range(1, 8):
        load(runner, number, golden_models / names[number % 2])
        if number > 1:
            runner.remove_adapter(number - 1)
    check_texts(runner, golden_models, {7: names[1], 0: "glm_hf"})


def test_without_room(golden_models: Path) -> None:
    runner = make_runner(golden_models / "glm_hf", max_adapters=1)
    with pytest.raises(AdapterError, match="--max-prefix-length 0"):
        load(runner, 1, golden_models / "glm_hf_prefix")


def test_memory_is_planned(golden_models: Path) -> None:
    checkpoint = golden_models / "glm_hf"
    model = read_model_config(checkpoint, None)

    def workspace(**options: object) -> int:
        config = RunnerConfig(
            checkpoint=str(checkpoint),
            dtype="float32",
            attention_backend="sdpa",
            **options,  # type: ignore[arg-type]
        )
        return CpuDevice().memory_needs(config, model).workspace

    slot = model.num_layers * 2 * model.num_kv_heads * model.head_dim * 4
    room = {"max_adapters": 3, "max_lora_rank": 1}
    assert workspace(**room, max_prefix_length=10) - workspace(**room) == 3 * 10 * slot


@pytest.mark.slow
def test_on_an_emulated_gpu(golden_models: Path) -> None:
    accelerator = emulated_gpu.EmulatedAccelerator()
    runner = emulated_gpu.load(golden_models / "glm_hf", accelerator, **LENGTHS)
    load(runner, 3, golden_models / "glm_hf_prefix")
    check_texts(runner, golden_models, {3: "glm_hf_prefix", 0: "glm_hf"})  # type: ignore[arg-type]
