"""What is planned for a device is what its runner then has."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest

from glmserve.config import (
    EMBEDDED_CHECKPOINT,
    PARALLEL_SIZES,
    PipelineSplit,
    RunnerConfig,
    report_nothing,
)
from glmserve.contract.shard import Group, Shard, Stage
from glmserve.contract.step import RunnerLimits
from glmserve.devices import cpu
from glmserve.devices.cpu import CpuDevice
from glmserve.model_config import ModelConfig, read_model_config
from glmserve.models.parts import part_of
from glmserve.probe.plans import attempt_all
from glmserve.runner.dtypes import quantization_on_load, stored_dtype
from glmserve.runner.gpu_memory import gpu_memory_needs
from glmserve.runner.torch_runner import TorchTarget
from support import emulated_gpu
from support.tiny_models import BASE

GIB = 2**30

CHATGLM2_6B = {
    **BASE,
    "hidden_size": 4096,
    "ffn_hidden_size": 13696,
    "num_layers": 28,
    "num_attention_heads": 32,
    "kv_channels": 128,
    "padded_vocab_size": 65024,
    "seq_length": 32768,
    "torch_dtype": "float16",
}


@pytest.fixture
def chatglm2_6b(tmp_path: Path) -> Path:
    (tmp_path / "config.json").write_text(json.dumps(CHATGLM2_6B))
    return tmp_path


def config_of(checkpoint: Path, **options: Any) -> RunnerConfig:
    return RunnerConfig(
        checkpoint=str(checkpoint), device="cpu", load_format="dummy", dtype="bfloat16", **options
    )


def loaded_limits(config: RunnerConfig, monkeypatch: pytest.MonkeyPatch) -> RunnerLimits:
    """What a runner would be loaded with; nothing is."""
    found: list[RunnerLimits] = []

    def load(
        config: RunnerConfig, model: ModelConfig, target: TorchTarget, limits: RunnerLimits, _: Any
    ) -> None:
        found.append(limits)

    monkeypatch.setattr(cpu, "load_torch_runner", load)
    CpuDevice().create_runner(config, report_nothing)
    return found[0]


@pytest.mark.parametrize("memory", [8, 13, 16, 64, 1000])
@pytest.mark.parametrize("options", [{}, {"max_model_len": 8192}, {"kv_cache_tokens": 10_000}])
def test_every_plan_is_what_the_cpu_then_loads_with(
    memory: int, options: dict[str, int], chatglm2_6b: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cpu, "available_memory", lambda: memory * GIB)
    config = config_of(chatglm2_6b, **options)
    attempts = attempt_all(config, read_model_config(chatglm2_6b))
    assert attempts[0].changes == {}
    for attempt in attempts:
        if attempt.changes.keys() & PARALLEL_SIZES:
            continue  # a machine with several NUMA nodes; it needs the other ranks
        changed = apply(config, attempt.changes)
        if attempt.limits is None:
            with pytest.raises(Exception, match="not enough memory"):
                loaded_limits(changed, monkeypatch)
            assert attempt.exit_code == 1
            continue
        limits = loaded_limits(changed, monkeypatch)
        assert limits.token_capacity == attempt.limits.token_capacity
        assert limits.max_context == attempt.limits.max_context
        taken = attempt.weight_bytes + attempt.kv_cache_bytes
        assert taken <= attempt.available_bytes == memory * GIB


def apply(config: RunnerConfig, changes: dict[str, str | None]) -> RunnerConfig:
    """As the command line would understand them."""
    defaults = RunnerConfig(checkpoint="")
    return msgspec.structs.replace(
        config, **{k: getattr(defaults, k) if v is None else v for k, v in changes.items()}
    )


def test_what_is_tried(chatglm2_6b: Path) -> None:
    config = config_of(chatglm2_6b, quantization="w8a8", max_model_len=4096)
    tried = [a.changes for a in attempt_all(config, read_model_config(chatglm2_6b))]
    assert tried[:3] == [{}, {"kv_cache_dtype": "int8"}, {"quantization": None}]
    assert {"quantization": "int4", "kv_cache_dtype": "int8"} in tried
    assert tried[-2:] == [{"dtype": None}, {"max_model_len": None}]
    assert not any("device" in changes for changes in tried)


def test_quantised_checkpoints_are_left_so(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({**CHATGLM2_6B, "quantization_bit": 4}))
    tried = [a.changes for a in attempt_all(config_of(tmp_path), read_model_config(tmp_path))]
    assert tried == [{}, {"kv_cache_dtype": "int8"}, {"dtype": None}]


def test_a_device_that_cannot_be_used() -> None:
    config = RunnerConfig(checkpoint=str(EMBEDDED_CHECKPOINT), device="no such device")
    first, *others = attempt_all(config, read_model_config(EMBEDDED_CHECKPOINT))
    assert (first.exit_code, first.limits) == (2, None)
    assert "unknown" in first.problem
    assert all(a.changes["device"] == "cpu" and a.limits for a in others)


def test_an_option_that_cannot_be_had() -> None:
    config = RunnerConfig(
        checkpoint=str(EMBEDDED_CHECKPOINT), device="cpu", attention_backend="triton"
    )
    first = attempt_all(config, read_model_config(EMBEDDED_CHECKPOINT))[0]
    assert first.exit_code == 2
    assert "it needs a GPU" in first.problem


def test_a_device_that_does_not_plan() -> None:
    config = RunnerConfig(checkpoint=str(EMBEDDED_CHECKPOINT), device="null")
    assert attempt_all(config, read_model_config(EMBEDDED_CHECKPOINT)) == []


@pytest.mark.slow
def test_a_gpu_plans_what_it_then_has(golden_models: Path) -> None:
    """Its memory is measured again when the weights are there; then it is the same plan."""
    checkpoint = golden_models / "glm2_bin_sharded"

    class Accelerator(emulated_gpu.EmulatedAccelerator):
        left = 2**32

        def free_memory(self) -> int:
            return self.left

    options: dict[str, Any] = {"kv_cache_tokens": None, "dtype": "float32"}
    config = RunnerConfig(
        checkpoint=str(checkpoint), dtype="float32", max_batch_size=3, max_step_tokens=16
    )
    model = read_model_config(checkpoint)
    dtype = stored_dtype(config, model)
    ops = emulated_gpu.make_ops(config, model, dtype, 16, emulated_gpu.GPU)
    target = TorchTarget(emulated_gpu.CPU, "", dtype, ops, quantization_on_load(config, model))
    needs = gpu_memory_needs(config, model, target, 16, 2**32)
    accelerator = Accelerator()
    accelerator.left = 2**32 - needs.weights
    info = emulated_gpu.load(checkpoint, accelerator, **options).info
    planned = needs.plan(config, model)
    assert info.limits.token_capacity == planned.token_capacity
    assert info.weight_bytes == needs.weights
    assert info.kv_cache_bytes == planned.token_capacity * needs.cache.token_bytes


def test_each_rank_needs_memory_for_its_part(
    chatglm2_6b: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And has its share of the machine's. All sizes are tried if one is asked for."""
    monkeypatch.setattr(cpu, "available_memory", lambda: 64 * GIB)
    model = read_model_config(chatglm2_6b)
    alone = attempt_all(config_of(chatglm2_6b), model)[0]
    attempts = attempt_all(config_of(chatglm2_6b, tensor_parallel_size=4), model)
    sizes = {a.changes.get("tensor_parallel_size", "4"): a for a in attempts if len(a.changes) < 2}
    assert sizes.keys() == {"1", "2", "4", "8"}
    for size, attempt in sizes.items():
        assert attempt.available_bytes == 64 * GIB // int(size)
        assert attempt.num_parameters == alone.num_parameters
        part = attempt.weight_bytes * int(size) / alone.weight_bytes
        assert 1 <= part < 1.1, "2 key/value heads are on several ranks"


def test_a_stage_needs_memory_for_its_layers(
    chatglm2_6b: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """28 layers, and an embedding as large as the output layer; sizes are the largest stage's."""
    monkeypatch.setattr(cpu, "available_memory", lambda: 64 * GIB)
    model = read_model_config(chatglm2_6b)
    alone = attempt_all(config_of(chatglm2_6b), model)[0]
    attempts = attempt_all(config_of(chatglm2_6b, pipeline_parallel_size=2), model)
    sizes = {
        a.changes.get("pipeline_parallel_size", "2"): a
        for a in attempts
        if a.changes.keys() <= {"pipeline_parallel_size"}
    }
    assert sizes.keys() == {"1", "2", "4", "8"}
    for size, attempt in sizes.items():
        assert attempt.available_bytes == 64 * GIB // int(size)
        assert attempt.num_parameters == alone.num_parameters
        part = attempt.weight_bytes * int(size) / alone.weight_bytes
        assert 1 <= part < 1.15, "28 layers are 3 or 4 for each of 8"
        assert attempt.token_bytes * int(size) >= alone.token_bytes


@pytest.mark.parametrize(("split", "layers"), [("memory", [4, 9, 9, 6]), ("equal", [7] * 4)])
def test_the_output_layer_counts_where_stages_are_made_equal(
    chatglm2_6b: Path, split: PipelineSplit, layers: list[int]
) -> None:
    """With 4-bit layers, the embedding of 16 bits is as much as five, the output layer as two."""
    config = config_of(
        chatglm2_6b, pipeline_parallel_size=4, pipeline_split=split, max_model_len=16
    )
    found = []
    for rank in range(4):
        group = Group(Shard(), "", Stage(rank, 4))
        own = msgspec.structs.replace(config, group=group)
        found.append(len(part_of(own, read_model_config(chatglm2_6b), 2, "int4").layers or ()))
    assert found == layers


def test_a_model_that_cannot_be_cut() -> None:
    config = RunnerConfig(checkpoint=str(EMBEDDED_CHECKPOINT), device="cpu", tensor_parallel_size=8)
    first, *others = attempt_all(config, read_model_config(EMBEDDED_CHECKPOINT))
    assert first.exit_code == 2
    assert "this model can be cut into 1, 2" in first.problem
    fits = [a.changes for a in others if a.limits and "tensor_parallel_size" in a.changes]
    assert fits == [{"tensor_parallel_size": "1"}, {"tensor_parallel_size": "2"}]


def test_a_device_for_one_process_refuses_ranks() -> None:
    config = RunnerConfig(
        checkpoint=str(EMBEDDED_CHECKPOINT), device="null", tensor_parallel_size=2
    )
    first = attempt_all(config, read_model_config(EMBEDDED_CHECKPOINT))[0]
    assert (first.exit_code, first.limits) == (2, None)
    assert "the null device computes a model in one process" in first.problem
