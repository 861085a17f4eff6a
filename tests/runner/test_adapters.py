"""Runners that hold adapters: loading beside steps, slots, graphs."""

from __future__ import annotations

from pathlib import Path

import pytest

from glmserve.adapters import digest
from glmserve.config import RunnerConfig, report_nothing
from glmserve.contract.adapter import AdapterRunner, AdapterSource
from glmserve.contract.step import Runner
from glmserve.devices.cpu import CpuDevice
from glmserve.errors import AdapterError, OptionError
from glmserve.runner.torch_runner import TorchRunner
from support import emulated_gpu
from support.decoding import Decoding
from support.golden import read_greedy
from support.lora import random_adapter
from support.tiny_models import BASE, random_weights, write_checkpoint


def source(adapter_id: int, folder: Path) -> AdapterSource:
    return AdapterSource(adapter_id, str(folder), digest(folder))


def load(runner: AdapterRunner, adapter_id: int, folder: Path) -> None:
    runner.read_adapter(source(adapter_id, folder))()


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


def check_greedy(runner: Runner, golden: Path, base: Path, adapter: int, count: int) -> None:
    """The adapter's and the plain model's text, side by side."""
    prompts, want = read_greedy(golden)
    plain_prompts, plain_want = read_greedy(base)
    decoding = Decoding(runner, [prompts[0], plain_prompts[1]], count + 1, [adapter, 0])
    got = decoding.outputs(count, chunk=7)
    assert got == [want[0][:count], plain_want[1][:count]]


class TestOnACpu:
    def test_text_of_adapter_and_model_side_by_side(self, golden_models: Path) -> None:
        base, golden = golden_models / "glm3_base_sharded_st", golden_models / "glm3_lora"
        runner = make_runner(base, max_adapters=2)
        assert runner.info.limits.max_adapters == 2
        load(runner, 5, golden)
        check_greedy(runner, golden, base, 5, 8)

    def test_slots_are_used_again(self, golden_models: Path) -> None:
        base, golden = golden_models / "glm2_base", golden_models / "glm2_lora"
        runner = make_runner(base, max_adapters=2)
        for adapter in range(1, 8):
            load(runner, adapter, golden)
            check_greedy(runner, golden, base, adapter, 1)
            runner.remove_adapter(adapter)

    def test_more_than_fit(self, golden_models: Path) -> None:
        runner = make_runner(golden_models / "glm2_base", max_adapters=1)
        golden = golden_models / "glm2_lora"
        load(runner, 1, golden)
        install = runner.read_adapter(source(2, golden))
        with pytest.raises(AdapterError, match="all 1 slots of --max-adapters hold adapters"):
            install()
        runner.remove_adapter(1)
        install()

    def test_changed_content(self, golden_models: Path) -> None:
        runner = make_runner(golden_models / "glm2_base", max_adapters=1)
        folder = str(golden_models / "glm2_lora")
        with pytest.raises(AdapterError, match="has changed since it was named"):
            runner.read_adapter(AdapterSource(1, folder, "0" * 64))

    def test_too_large_a_rank(self, golden_models: Path) -> None:
        runner = make_runner(golden_models / "glm2_base", max_adapters=1, max_lora_rank=7)
        with pytest.raises(AdapterError, match="rank 8 is more than --max-lora-rank 7"):
            runner.read_adapter(source(1, golden_models / "glm2_lora"))

    def test_one_that_changes_nothing_is_noted(
        self, golden_models: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
    ) -> None:
        checkpoint = write_checkpoint(tmp_path / "base", BASE, random_weights(BASE))
        runner = make_runner(checkpoint, max_adapters=2)
        load(runner, 1, random_adapter(tmp_path / "some", BASE))
        assert "changes nothing" not in capfd.readouterr().err
        load(runner, 2, random_adapter(tmp_path / "none", BASE, scale=0.0))
        assert f"{tmp_path}/none: the adapter changes nothing" in capfd.readouterr().err

    def test_no_room(self, golden_models: Path) -> None:
        runner = make_runner(golden_models / "glm2_base")
        assert runner.info.limits.max_adapters == 0
        with pytest.raises(RuntimeError, match="no room for adapters"):
            runner.read_adapter(source(1, golden_models / "glm2_lora"))

    def test_memory_is_planned(self, golden_models: Path) -> None:
        from glmserve.model_config import read_model_config

        checkpoint = golden_models / "glm2_base"
        model = read_model_config(checkpoint, None)

        def workspace(**options: int) -> int:
            config = RunnerConfig(checkpoint=str(checkpoint), dtype="float32", **options)  # type: ignore[arg-type]
            return CpuDevice().memory_needs(config, model).workspace

        hidden, qkv, ffn = 128, 192, 352
        ranks = 16 * (3 * (hidden + qkv) + 2 * hidden + 2 * (hidden + 2 * ffn) + ffn + hidden)
        biases = qkv + hidden + 2 * ffn + hidden
        added = workspace(max_adapters=5, max_lora_rank=16) - workspace()
        assert added == 5 * 3 * 4 * (ranks + biases)


@pytest.mark.slow
def test_on_an_emulated_gpu(golden_models: Path) -> None:
    """By the graphs of steps with adapters: three for decodes, one for up to 16 tokens."""
    base, golden = golden_models / "glm3_base_sharded_st", golden_models / "glm3_lora"
    accelerator = emulated_gpu.EmulatedAccelerator()
    runner = emulated_gpu.load(base, accelerator, max_adapters=2, max_lora_rank=8)
    assert accelerator.graphs == 2 * 4
    load(runner, 3, golden)
    check_greedy(runner, golden, base, 3, 3)
    runner.remove_adapter(3)


def test_a_device_without_room_refuses_by_name(golden_models: Path) -> None:
    from glmserve.devices.base import refuse_adapters
    from glmserve.devices.openvino import OpenVinoDevice

    config = RunnerConfig(checkpoint="", max_adapters=1)
    with pytest.raises(OptionError, match="the openvino device serves no adapters"):
        refuse_adapters(OpenVinoDevice(), config)
    refuse_adapters(CpuDevice(), config)
