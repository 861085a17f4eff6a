"""The CPU device: what it decides before any weight is read."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from glmserve.config import RunnerConfig, report_nothing
from glmserve.contract.step import SamplingInput, ScheduledSequence, StepInput
from glmserve.devices import cpu
from glmserve.devices.cpu import CpuDevice, default_threads
from glmserve.devices.host import available_memory
from glmserve.errors import CheckpointError, DeviceError, OptionError
from glmserve.model_config import read_model_config
from glmserve.process.cpus import cpu_name, usable_cores
from glmserve.runner.dtypes import host_dtype, stored_dtype
from glmserve.runner.torch_runner import TorchRunner
from support.native import native_library
from support.tiny_models import BASE, random_weights, write_checkpoint

GIB = 2**30


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    return write_checkpoint(tmp_path, BASE, random_weights(BASE))


def create(checkpoint: Path, **options: Any) -> TorchRunner:
    config = RunnerConfig(checkpoint=str(checkpoint), **options)
    return CpuDevice().create_runner(config, report_nothing)


def write_large(folder: Path) -> Path:
    """The configuration of ChatGLM2-6B, without weights."""
    large = {
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
    (folder / "config.json").write_text(json.dumps(large))
    return folder


def test_host() -> None:
    assert cpu_name()
    assert 1 <= usable_cores() <= 4096
    assert 2**26 < available_memory() < 2**50


@pytest.mark.parametrize(("cores", "threads"), [(1, 1), (2, 2), (3, 2), (64, 63)])
def test_default_threads(cores: int, threads: int) -> None:
    assert default_threads(cores, GIB) == threads
    assert default_threads(cores, 1000) == 1
    assert default_threads(cores, GIB, alone=True) == cores
    assert default_threads(cores, 1000, alone=True) == 1


def test_default_cache_holds_a_request(checkpoint: Path) -> None:
    limits = create(checkpoint).info.limits
    assert limits.max_context == 256
    assert limits.token_capacity >= 256


class TestDtype:
    def test_auto_small(self, checkpoint: Path) -> None:
        config = RunnerConfig(checkpoint=str(checkpoint))
        model = read_model_config(checkpoint)
        assert host_dtype(config, model, fast_bfloat16=True) == torch.float32

    def test_auto_large(self, tmp_path: Path) -> None:
        config = RunnerConfig(checkpoint=str(tmp_path))
        model = read_model_config(write_large(tmp_path))
        assert host_dtype(config, model, fast_bfloat16=True) == torch.bfloat16
        assert host_dtype(config, model, fast_bfloat16=False) == torch.float32

    def test_named(self, checkpoint: Path) -> None:
        config = RunnerConfig(checkpoint=str(checkpoint), dtype="float16")
        model = read_model_config(checkpoint)
        assert host_dtype(config, model, fast_bfloat16=True) == torch.float16
        assert stored_dtype(config, model) == torch.float16

    @pytest.mark.parametrize(
        ("stored", "want"),
        [
            ("float16", torch.float16),
            ("bfloat16", torch.bfloat16),
            ("float32", torch.float32),
            (None, torch.bfloat16),
        ],
    )
    def test_as_stored(self, tmp_path: Path, stored: str | None, want: torch.dtype) -> None:
        (tmp_path / "config.json").write_text(json.dumps({**BASE, "torch_dtype": stored}))
        config = RunnerConfig(checkpoint=str(tmp_path))
        assert stored_dtype(config, read_model_config(tmp_path)) == want


class TestMemory:
    def test_weights_that_do_not_fit(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(cpu, "available_memory", lambda: 4 * GIB)
        with pytest.raises(DeviceError, match=r"weights need 11\.6 GiB as bfloat16, 4\.0 GiB"):
            create(write_large(tmp_path), dtype="bfloat16")

    def test_no_room_for_the_cache(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(cpu, "available_memory", lambda: 12 * GIB)
        with pytest.raises(DeviceError, match="KV cache"):
            create(write_large(tmp_path), dtype="bfloat16", max_model_len=32768)

    def test_long_context_option(self, checkpoint: Path) -> None:
        with pytest.raises(OptionError, match=r"--max-model-len 257 .* 256"):
            create(checkpoint, max_model_len=257)


def test_missing_weights(checkpoint: Path) -> None:
    (checkpoint / "model.safetensors").unlink()
    with pytest.raises(CheckpointError, match=r"model\.safetensors"):
        create(checkpoint)


def test_null_device_agrees_on_the_contract(checkpoint: Path) -> None:
    """Same step, same shape of answer, on the device without a model."""
    from glmserve.devices.null import NullDevice

    step = StepInput(5, [ScheduledSequence(0, [1, 2], 0, bytes(4), SamplingInput())])
    config = RunnerConfig(checkpoint=str(checkpoint), vocab_limit=7)
    runner = NullDevice().create_runner(config, report_nothing)
    outputs = [r.execute(step) for r in (runner, runner, create(checkpoint, vocab_limit=7))]
    assert outputs[0] == outputs[1]
    assert all(o.step_id == 5 and len(o.token_ids) == 1 and o.token_ids[0] < 7 for o in outputs)
    assert runner.info.limits.max_context == 256


def test_what_only_native_kernels_have(checkpoint: Path) -> None:
    """Without them float32 activations would stay as they are, and nobody would notice."""
    with pytest.raises(OptionError, match="add --dtype bfloat16"):
        create(checkpoint, quantization="w8a8", cpu_kernels="torch")
    create(checkpoint, quantization="w8a8", dtype="bfloat16", cpu_kernels="torch")
    with pytest.raises(OptionError, match="w4a8 needs glmserve's own CPU kernels"):
        create(checkpoint, quantization="w4a8", dtype="bfloat16", cpu_kernels="torch")
    with pytest.raises(OptionError, match="native cannot be used here: --cpu-kernels torch"):
        create(checkpoint, attention_backend="native", cpu_kernels="torch")


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("quantization", [None, "int8", "int4", "w8a8", "w4a8"])
@pytest.mark.parametrize("kv_cache_dtype", ["auto", "int8"])
def test_native_kernels(
    checkpoint: Path, dtype: str, quantization: str | None, kv_cache_dtype: str
) -> None:
    """All of them serve, with the same greedy token as torch's where nothing is rounded."""
    native_library()
    step = StepInput(5, [ScheduledSequence(0, [1, 2, 9], 0, bytes(4), SamplingInput())])
    options = {"dtype": dtype, "quantization": quantization, "kv_cache_dtype": kv_cache_dtype}
    native = create(checkpoint, cpu_kernels="native", attention_backend="native", **options)
    (token,) = native.execute(step).token_ids
    assert 0 <= token < BASE["padded_vocab_size"]
    if quantization is None and dtype == "float32" and kv_cache_dtype == "auto":
        assert create(checkpoint, cpu_kernels="torch").execute(step).token_ids == [token]


def test_native_kernels_do_not_know_float16(checkpoint: Path) -> None:
    native_library()
    with pytest.raises(OptionError, match="they compute in float32 and bfloat16, not in float16"):
        create(checkpoint, quantization="w4a8", dtype="float16")
    with pytest.raises(OptionError, match="--cpu-kernels native cannot be had here: they compute"):
        create(checkpoint, cpu_kernels="native", dtype="float16")
    info = create(checkpoint, dtype="float16").info
    assert "torch's kernels" in info.device
    assert info.limits.block_size == 16


def test_native_attention_needs_its_blocks(
    checkpoint: Path, caplog: pytest.LogCaptureFixture
) -> None:
    native_library()
    with pytest.raises(OptionError, match="a --block-size of 32, or a multiple; this is 16"):
        create(checkpoint, attention_backend="native", block_size=16)
    create(checkpoint, attention_backend="sdpa", block_size=16)
    assert create(checkpoint).info.limits.block_size == 32
    assert not caplog.messages
    assert create(checkpoint, block_size=16).info.limits.block_size == 16
    (warning,) = caplog.messages
    assert "by torch" in warning
    assert "a --block-size of 32, or a multiple; this is 16" in warning
    assert "add --deterministic" in warning
    assert create(checkpoint, block_size=16, deterministic=True).info.limits.block_size == 16
    assert caplog.messages[1].endswith("it is slower")
