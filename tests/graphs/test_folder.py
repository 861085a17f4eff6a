"""The folder of `glmserve compile`: what is in it, and what is refused."""

from __future__ import annotations

import dataclasses
import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from glmserve.config import (
    EMBEDDED_CHECKPOINT,
    CombinationConfig,
    CompilationConfig,
    ConversionConfig,
    RunnerConfig,
    report_nothing,
)
from glmserve.converter.convert import convert
from glmserve.devices.base import PlanningDevice
from glmserve.devices.registry import device_for
from glmserve.errors import CheckpointError, DeviceError, OptionError, StartupError
from glmserve.graphs.combine import combine_folders
from glmserve.graphs.manifest import check_files, read_manifest
from glmserve.model_config import read_model_config
from support.compiled import compile_model, load_compiled
from support.tiny_models import BASE, random_weights, write_checkpoint


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_checkpoint(tmp_path_factory.mktemp("source"), BASE, random_weights(BASE))


@pytest.fixture(scope="module")
def compiled(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp("compiled") / "lanes"
    return compile_model(checkpoint, target, "onnxruntime", "lanes")


@pytest.fixture
def copied(compiled: Path, tmp_path: Path) -> Path:
    """To be damaged."""
    return Path(shutil.copytree(compiled, tmp_path / "copy"))


def test_weights_are_stored_once(compiled: Path, checkpoint: Path) -> None:
    graphs = sum(path.stat().st_size for path in compiled.glob("*.onnx"))
    weights = (compiled / "weights.bin").stat().st_size
    stored = (checkpoint / "model.safetensors").stat().st_size
    assert graphs < weights < 1.2 * stored + 4096 * 100  # each array begins at a page


def test_shapes_are_static(compiled: Path) -> None:
    import onnx

    paths = sorted(compiled.glob("*.onnx"))
    assert [path.stem for path in paths] == ["base", "head", "incremental-1", "incremental-8"]
    for path in paths:
        graph = onnx.load(path, load_external_data=False).graph
        for value in (*graph.input, *graph.output):
            assert all(dim.dim_value > 0 for dim in value.type.tensor_type.shape.dim)
        onnx.checker.check_model(path, full_check=True)


def test_standard_operators_only(checkpoint: Path, tmp_path: Path) -> None:
    folder = compile_model(checkpoint, tmp_path / "c", "onnx", "lanes", quantization="int4")
    import onnx

    model = onnx.load(folder / "base.onnx", load_external_data=False)
    assert {node.domain for node in model.graph.node} == {""}
    assert "DequantizeLinear" in {node.op_type for node in model.graph.node}


def test_the_folder_names_its_device(compiled: Path) -> None:
    config = RunnerConfig(checkpoint=str(compiled))
    assert device_for(config).name == "onnxruntime"


@pytest.mark.parametrize("name", ["weights.bin", "base.onnx", "config.json"])
def test_a_changed_file_is_refused(copied: Path, name: str) -> None:
    path = copied / name
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    with pytest.raises(CheckpointError, match=f"{name}: not the file that was compiled"):
        load_compiled(copied)


def test_a_missing_file_is_refused(copied: Path) -> None:
    (copied / "incremental-8.onnx").unlink()
    with pytest.raises(CheckpointError, match=r"incremental-8\.onnx: missing"):
        load_compiled(copied)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"glmserve_format": 2}, "its format is 2, and this glmserve reads 1"),
        ({"batch_sizes": "many"}, "damaged"),
        ({"files": {"../weights.bin": {"size": 1, "sha256": ""}}}, "not a name within the folder"),
    ],
)
def test_another_manifest_is_refused(copied: Path, change: dict[str, object], message: str) -> None:
    path = copied / "manifest.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(CheckpointError, match=message):
        load_compiled(copied)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"device": "cpu"}, "was compiled for onnxruntime; leave --device out"),
        ({"device": "onnxruntime:nonsense"}, "no such execution provider"),
        ({"dtype": "bfloat16"}, "compiled in float32"),
        ({"quantization": "int8"}, "compiled in float32"),
        ({"kv_cache_dtype": "int8"}, "lanes hold float32"),
        ({"kv_cache_tokens": 100}, "8 lanes of 192 tokens"),
        ({"drafts": True}, "--speculative-tokens"),
        ({"max_model_len": 193}, "192 tokens"),
        ({"block_size": 16}, "--block-size is decided"),
        ({"load_format": "dummy"}, "--load-format is decided"),
        ({"ptuning_checkpoint": "x"}, "--ptuning-checkpoint is decided"),
    ],
)
def test_options_that_contradict_the_folder(
    compiled: Path, options: dict[str, object], message: str
) -> None:
    with pytest.raises(OptionError, match=message):
        load_compiled(compiled, **options)


def test_values_that_ask_for_the_same(compiled: Path) -> None:
    runner = load_compiled(compiled, dtype="float32", kv_cache_tokens=8 * 192, max_model_len=100)
    assert runner.info.limits.max_context == 100


@pytest.mark.parametrize("name", ["onnxruntime", "openvino"])
def test_a_checkpoint_must_be_compiled_first(checkpoint: Path, name: str) -> None:
    pytest.importorskip(name)
    config = RunnerConfig(checkpoint=str(checkpoint), device=name)
    with pytest.raises(CheckpointError, match=f"--for {name}"):
        device_for(config).create_runner(config, report_nothing)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"total_len": 500}, "256 tokens"),
        ({"prompt_len": 200}, "--prompt-len 200 is more than --total-len 192"),
        ({"runtime": "onnxruntime", "dtype": "bfloat16"}, "no products in bfloat16"),
        ({"runtime": "onnx", "quantization": "w8a8"}, "rounds activations"),
        ({"runtime": "openvino", "quantization": "w4a8"}, "rounds activations"),
    ],
)
def test_what_cannot_be_compiled(
    checkpoint: Path, tmp_path: Path, options: dict[str, object], message: str
) -> None:
    options = {"runtime": "onnx", **options}
    with pytest.raises(OptionError, match=message):
        compile_model(checkpoint, tmp_path / "c", attention="lanes", **options)  # type: ignore[arg-type]
    assert not list(tmp_path.iterdir())


def test_the_first_generation_is_refused(golden_models: Path, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="ChatGLM-6B reads a prompt in both directions"):
        compile_model(golden_models / "glm1_base", tmp_path / "c", "onnx", "lanes")


def test_folders_are_combined(checkpoint: Path, tmp_path: Path) -> None:
    parts = [
        compile_model(checkpoint, tmp_path / str(n), "onnxruntime", "lanes", batch_sizes=(n,))
        for n in (1, 3)
    ]
    whole = compile_model(checkpoint, tmp_path / "w", "onnxruntime", "lanes", batch_sizes=(1, 3))
    target = tmp_path / "combined"
    combination = CombinationConfig(folders=list(map(str, parts)), target=str(target))
    assert combine_folders(combination, report_nothing) == read_manifest(whole)
    assert load_compiled(target).info.limits.batch_sizes == (1, 3)


def test_only_what_belongs_together_is_combined(
    checkpoint: Path, compiled: Path, tmp_path: Path
) -> None:
    source = write_checkpoint(tmp_path / "source", BASE, random_weights(BASE, seed=1))
    other_weights = compile_model(source, tmp_path / "2", "onnxruntime", "lanes")
    others = {
        "its prompt_len is 8": compile_model(
            checkpoint, tmp_path / "1", "onnxruntime", "lanes", prompt_len=8
        ),
        "its weights.bin is not that": other_weights,
        "its runtime is onnx": compile_model(checkpoint, tmp_path / "3", "onnx", "lanes"),
        "not a folder of": checkpoint,
    }
    for message, other in others.items():
        combination = CombinationConfig(
            folders=[str(compiled), str(other)], target=str(tmp_path / "target")
        )
        with pytest.raises(StartupError, match=message):
            combine_folders(combination, report_nothing)


def test_a_device_for_each_part(checkpoint: Path, tmp_path: Path) -> None:
    folder = compile_model(checkpoint, tmp_path / "c", "onnxruntime", "lanes", split=2)
    runner = load_compiled(folder, device="onnxruntime:CPU,CPU")
    assert "CPUExecutionProvider" in runner.info.device
    with pytest.raises(OptionError, match="names 3 devices, and the graphs have 2 parts"):
        load_compiled(folder, device="onnxruntime:CPU,CPU,CPU")


def test_a_prefix_needs_lanes(golden_models: Path, tmp_path: Path) -> None:
    prefix = str(golden_models / "glm2_ptuning")
    with pytest.raises(OptionError, match="add --attention lanes"):
        compile_model(
            *(golden_models / "glm2_base", tmp_path / "c", "openvino", "paged"),
            ptuning_checkpoint=prefix,
        )


@pytest.mark.parametrize("cache", ["auto", "int8"])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_the_doctor_knows_the_paged_cache(
    golden_models: Path, tmp_path: Path, dtype: str, cache: str
) -> None:
    source = golden_models / "glm4_base"
    folder = compile_model(source, tmp_path / "c", "openvino", "paged", dtype=dtype)
    try:
        info = load_compiled(folder, kv_cache_dtype=cache).info
    except DeviceError as error:
        pytest.skip(f"this CPU computes otherwise: {error}")
    config = RunnerConfig(checkpoint=str(folder), kv_cache_dtype=cache, kv_cache_tokens=2048)
    device, model = device_for(config), read_model_config(folder)
    assert isinstance(device, PlanningDevice)
    needs = device.memory_needs(config, model)
    assert needs.cache.token_bytes * info.limits.token_capacity == info.kv_cache_bytes
    assert needs.plan(config, model).token_capacity == info.limits.token_capacity


def test_the_doctor_knows_the_lanes(compiled: Path) -> None:
    info = load_compiled(compiled).info
    config = RunnerConfig(checkpoint=str(compiled))
    device, model = device_for(config), read_model_config(compiled)
    assert isinstance(device, PlanningDevice)
    needs = device.memory_needs(config, model)
    assert needs.plan(config, model) == info.limits
    assert needs.cache.token_bytes * info.limits.token_capacity == info.kv_cache_bytes
    few = dataclasses.replace(needs, available=needs.weights)
    with pytest.raises(DeviceError, match="fewer --batch-sizes"):
        few.plan(config, model)


@pytest.mark.slow
def test_its_accuracy_is_measured(compiled: Path, tmp_path: Path) -> None:
    checkpoint = EMBEDDED_CHECKPOINT
    folder = compile_model(
        *(checkpoint, tmp_path / "c", "onnxruntime", "lanes"),
        quantization="w8a8",
        total_len=512,
    )
    command = ["bench", "accuracy", "--tokens", "200", "--dtype", "float32", "--device", "cpu"]
    result = subprocess.run(
        [sys.executable, "-m", "glmserve", *command, "--converted", str(folder)],
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stderr
    _, _, change, *_ = result.stdout.splitlines()[-1].split()
    assert 0 < float(change) < 0.1


def test_modelslim_is_refused(golden_models: Path, tmp_path: Path) -> None:
    conversion = ConversionConfig(
        source=str(golden_models / "glm2_base"),
        target=str(tmp_path / "slim"),
        bits=8,
        group_size=None,
        layout="modelslim",
    )
    convert(conversion, report_nothing)
    with pytest.raises(CheckpointError, match="ModelSlim's weights round activations"):
        compile_model(tmp_path / "slim", tmp_path / "c", "onnx", "lanes")


def test_a_damaged_checkpoint_leaves_nothing(checkpoint: Path, tmp_path: Path) -> None:
    source = Path(shutil.copytree(checkpoint, tmp_path / "source"))
    weights = source / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    with pytest.raises(CheckpointError):
        compile_model(source, tmp_path / "target", "onnxruntime", "lanes")
    assert [path.name for path in tmp_path.iterdir()] == ["source"]


def test_a_compiled_folder_is_no_checkpoint(compiled: Path, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="compiled already"):
        compile_model(compiled, tmp_path / "c", "onnx", "lanes")


def test_a_missing_package(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from glmserve.graphs import checks
    from glmserve.graphs.compile import compile_checkpoint

    monkeypatch.setattr(checks, "find_spec", lambda name: None)
    compilation = CompilationConfig(
        source=str(checkpoint), target=str(tmp_path / "c"), runtime="openvino", attention="paged"
    )
    with pytest.raises(DeviceError, match=r"pip install 'glmserve\[openvino\]'"):
        compile_checkpoint(compilation, report_nothing)


def test_paged_options(checkpoint: Path, tmp_path: Path) -> None:
    folder = compile_model(checkpoint, tmp_path / "c", "openvino", "paged")
    assert read_manifest(folder).batch_sizes == ()
    check_files(folder, read_manifest(folder), report_nothing)
    with pytest.raises(StartupError, match="no such device"):
        load_compiled(folder, device="openvino:TPU")
    with pytest.raises(OptionError, match="--kv-cache-dtype fp8"):
        load_compiled(folder, kv_cache_dtype="fp8")
    with pytest.raises(OptionError, match="compiled for openvino"):
        load_compiled(folder, device="onnxruntime")
    runner = load_compiled(folder, kv_cache_dtype="int8")
    plain = load_compiled(folder)
    assert runner.info.kv_cache_bytes < plain.info.kv_cache_bytes
