"""What is written for the compilers of two vendors, held against what they publish.

No such compiler is at hand. Graphs run in onnxruntime, the vendor's operator by the definition that
the vendor publishes; scripts run beside stand-ins that take the options of the published ones.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from glmserve.cli.main import build_parser
from glmserve.config import CombinationConfig, CompilationConfig, RunnerConfig, report_nothing
from glmserve.devices.registry import device_for, select_device
from glmserve.errors import CheckpointError, DeviceError, OptionError
from glmserve.graphs.combine import combine_folders
from glmserve.graphs.vendor.build import build
from glmserve.graphs.vendor.checks import check_vendor
from glmserve.model_config import read_model_config
from support.compiled import compile_model
from support.golden import ATOL, read_logits
from support.tiny_models import BASE, random_weights, write_checkpoint
from support.vendor_operators import lane_logits, lane_model, whole_logits

yaml = pytest.importorskip("yaml", reason="needs PyYAML")
onnx = pytest.importorskip("onnx", reason="needs the onnxruntime extra")

WIDE = BASE | {
    "num_attention_heads": 16,
    "multi_query_group_num": 1,
    "kv_channels": 128,
    "num_layers": 1,
    "seq_length": 16384,
}
"""The shape of heads that the published script of Hexaflake compiles."""


@pytest.fixture(scope="module")
def wide(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_checkpoint(tmp_path_factory.mktemp("wide"), WIDE, random_weights(WIDE))


@pytest.mark.parametrize(
    ("name", "quantization"), [("glm2_int8", None), ("glm4_base", None), ("glm2_base", "int8")]
)
def test_graphs_of_vastai_compute_the_model(
    golden_models: Path, tmp_path: Path, name: str, quantization: str | None
) -> None:
    folder = compile_model(
        golden_models / name, tmp_path / "c", "vacc", "lanes", quantization=quantization
    )
    operators = {
        (node.domain, node.op_type)
        for node in onnx.load(folder / "base.onnx", load_external_data=False).graph.node
    }
    is_int8 = name == "glm2_int8" or quantization is not None
    assert (("Vastai", "QuantizedLinearPerChannel") in operators) == is_int8
    ids, want = read_logits(golden_models / name)[0]
    atol = 0.5 if quantization else ATOL  # the original has no rounded weights
    got = lane_logits(lane_model(folder), ids)
    np.testing.assert_allclose(got, want[: len(got)], rtol=0, atol=atol)


def test_build_files_of_vastai(golden_models: Path, tmp_path: Path) -> None:
    source = golden_models / "glm2_int8"
    folder = compile_model(source, tmp_path / "c", "vacc", "lanes", total_len=64)
    for name, tokens in (("base", 16), ("incremental-1", 1), ("incremental-8", 1)):
        build = yaml.safe_load((folder / f"{name}.yaml").read_text())
        graph = onnx.load(folder / build["frontend"]["checkpoint"], load_external_data=False).graph
        shapes = {
            value.name: [dim.dim_value for dim in value.type.tensor_type.shape.dim]
            for value in graph.input
        }
        assert build["frontend"]["shape"] == shapes
        assert shapes["input_ids"][1] == tokens
        assert build["backend"]["type"] == "tvm_vacc" and build["backend"]["dtype"] == "int8"
    formats = {"fp16": None, "int8": {"type": "w8a16_gptq"}, "kv8": {"type": "w16kv8"}}
    for name, quantize in formats.items():
        build = yaml.safe_load((folder / f"hf_chatglm_{name}.yaml").read_text())
        assert build["frontend"]["checkpoint"] == str(source.resolve())
        assert build["frontend"]["shape"] == {"input_ids": [[16], [64]]}
        assert build["frontend"]["model_kwargs"] == {"b2s": True, "tp": 4, "model_arch": "vacc"}
        assert build["frontend"].get("quantize") == quantize
        assert build["backend"]["dtype"] == ("fp16" if name == "fp16" else "int8")
    config = json.loads((folder / "config_vacc.json").read_text())
    assert config["insert_slice"] is True
    assert config["num_layers"] == json.loads((source / "config.json").read_text())["num_layers"]


def test_folders_of_vastai_are_combined(golden_models: Path, tmp_path: Path) -> None:
    source = golden_models / "glm2_base"
    parts = [
        compile_model(source, tmp_path / str(n), "vacc", "lanes", batch_sizes=(n,)) for n in (1, 3)
    ]
    target = tmp_path / "both"
    combination = CombinationConfig(folders=list(map(str, parts)), target=str(target))
    combine_folders(combination, report_nothing)
    assert {path.name for path in target.glob("*.yaml")} >= {
        "base.yaml",
        "incremental-1.yaml",
        "incremental-3.yaml",
    }


@pytest.mark.parametrize("name", ["glm2_base", "glm2_res_post_ln", "glm2_32k_interp"])
@pytest.mark.parametrize("padding", [0, 9])
def test_the_graph_for_hexaflake_computes_the_model(
    golden_models: Path, name: str, padding: int
) -> None:
    for ids, want in read_logits(golden_models / name)[:2]:
        got = whole_logits(golden_models / name, ids, padding)
        np.testing.assert_allclose(got, want, rtol=0, atol=ATOL)


COMPASS = """
import argparse, pathlib, sys
import onnx
parser = argparse.ArgumentParser()
for name in ("--model-path", "--target-path", "--export-name"):
    parser.add_argument(name)
for name in ("--static-batch-size", "--total-len", "--pre-len"):
    parser.add_argument(name, type=int)
for name, default in (("--is-bf16", True), ("--quant", True), ("--int4", False)):
    parser.add_argument(name, type=bool, default=default)
a = parser.parse_args()
graph = onnx.load(a.model_path).graph
assert [i.name for i in graph.input] == ["input_ids", "position_ids", "attention_mask"]
length = a.total_len if a.total_len <= 8192 else 2048
assert graph.input[0].type.tensor_type.shape.dim[1].dim_value == length
producer = {o: n for n in graph.node for o in n.output}
transpose = producer[producer[graph.output[0].name].input[0]]
assert transpose.op_type == "Transpose" and producer[transpose.input[0]].op_type == "MatMul"
name = a.target_path + "/" + a.export_name
name += f"_b{a.static_batch_size}" if a.static_batch_size != 1 else ""
name += "_bf16" if a.is_bf16 else "_fp32"
name += ("_q4" if a.int4 else "_q") if a.quant else ""
name += f"_pre{a.pre_len}" if a.pre_len != 256 else ""
for suffix in (".ngf", "_inc.ngf"):
    pathlib.Path(name + suffix).write_text(str(vars(a)))
"""
"""Takes the options of the published glm2_6b_dyn.py, and names engines as it does."""

COMBINE = """
import argparse, pathlib
parser = argparse.ArgumentParser()
for name in ("--ngf-1", "--ngf-2", "--output"):
    parser.add_argument(name)
a = parser.parse_args()
parts = [pathlib.Path(p).read_text() for p in (a.ngf_1, a.ngf_2)]
pathlib.Path(a.output).write_text("".join(parts))
"""


@pytest.fixture
def stand_ins(tmp_path: Path) -> Iterator[dict[str, str]]:
    """An environment in which the vendors' tools are found."""
    tools = tmp_path / "tools"
    tools.mkdir()
    (tools / "glm2_6b_dyn.py").write_text(COMPASS)
    (tools / "combine.py").write_text(COMBINE)
    vamc = tools / "vamc"
    vamc.write_text('#!/bin/sh\n[ "$1" = compile ] && [ -f "$2" ] && echo "$2" >> compiled.txt\n')
    vamc.chmod(0o755)
    python = tools / "python3"
    python.write_text(f'#!/bin/sh\nexec {sys.executable} "$@"\n')
    python.chmod(0o755)
    yield {**os.environ, "PATH": f"{tools}:{os.environ['PATH']}"}


def test_the_compiler_of_vastai_is_called(
    golden_models: Path,
    tmp_path: Path,
    stand_ins: dict[str, str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    source, target = golden_models / "glm2_base", tmp_path / "c"
    compile_model(source, target, "vacc", "lanes")
    compilation = CompilationConfig(
        source=str(source), target=str(target), runtime="vacc", attention="lanes"
    )
    assert "copy the folder to a machine that has it" in build(compilation)
    monkeypatch.setenv("PATH", stand_ins["PATH"])
    assert "compiled by the vendor's compiler" in build(compilation)
    compiled = (target / "compiled.txt").read_text().split()
    assert compiled == ["base.yaml", "incremental-1.yaml", "incremental-8.yaml"]
    (target / "base.yaml").unlink()
    with pytest.raises(DeviceError, match="failed with exit code 1"):
        build(compilation)


@pytest.mark.slow
def test_scripts_of_hexaflake_are_called(
    wide: Path, tmp_path: Path, stand_ins: dict[str, str]
) -> None:
    target = tmp_path / "c"
    options = ("--total-len", 32, "--prompt-len", 16, "--batch-sizes", "1,8")
    scripts = ("--quantization", "int4", "--vendor-scripts", tmp_path / "tools")
    command = ["compile", wide, target, "--for", "compass", *options, *scripts]
    result = subprocess.run(
        [sys.executable, "-m", "glmserve", *map(str, command)],
        capture_output=True,
        text=True,
        env=stand_ins,
    )
    assert result.returncode == 0, result.stderr
    assert "No such card or compiler was at hand" in result.stdout
    combined = sorted(path.name for path in target.glob("*_multi.ngf"))
    assert combined == ["glm_b8_bf16_q4_pre16_multi.ngf", "glm_bf16_q4_pre16_multi.ngf"]
    assert "'total_len': 32" in (target / combined[0]).read_text()
    with pytest.raises(OptionError, match="which glmserve does not drive"):
        device_for(RunnerConfig(checkpoint=str(target)))


@pytest.mark.parametrize(
    ("dtype", "quantization", "total_len", "want"),
    [("auto", None, 32, (True, False)), ("float32", "int8", 9000, (False, True))],
)
def test_formats_reach_the_script(
    wide: Path,
    tmp_path: Path,
    stand_ins: dict[str, str],
    dtype: str,
    quantization: str | None,
    total_len: int,
    want: tuple[bool, bool],
) -> None:
    folder = compile_model(
        *(wide, tmp_path / "c", "compass", "whole"),
        dtype=dtype,
        quantization=quantization,
        total_len=total_len,
        batch_sizes=(1,),
    )
    command = ["sh", str(folder / "build.sh"), str(tmp_path / "tools")]
    subprocess.run(command, check=True, env=stand_ins)
    (engine,) = folder.glob("*_multi.ngf")
    text = engine.read_text()
    assert (f"'is_bf16': {want[0]}" in text, f"'quant': {want[1]}" in text) == (True, True)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("glm2_base", {"runtime": "vacc", "quantization": "int4"}, "take int8"),
        ("glm2_base", {"runtime": "vacc", "dtype": "bfloat16"}, "take float16 or float32"),
        ("glm2_base", {"runtime": "vacc", "prompt_len": 20}, "multiples of 16; take 32"),
        ("glm2_int4", {"runtime": "vacc"}, "a scale for each row"),
        ("glm2_int8", {"runtime": "compass"}, "rounds floating point weights itself"),
        ("glm2_base", {"runtime": "compass"}, "16 query heads"),
        ("wide", {"runtime": "compass", "quantization": "w8a8"}, "take int8 or int4"),
        ("wide", {"runtime": "compass", "dtype": "float16"}, "bfloat16 or float32"),
    ],
)
def test_what_no_flow_has(
    golden_models: Path,
    wide: Path,
    tmp_path: Path,
    name: str,
    options: dict[str, str],
    message: str,
) -> None:
    source = wide if name == "wide" else golden_models / name
    attention = "whole" if options["runtime"] == "compass" else "lanes"
    with pytest.raises((CheckpointError, OptionError), match=message):
        compile_model(source, tmp_path / "c", attention=attention, **options)  # type: ignore[arg-type]
    assert not (tmp_path / "c").exists()


def test_rotations_that_the_script_does_not_make(wide: Path) -> None:
    model = read_model_config(wide)
    other = replace(model, rope=replace(model.rope, base=500000.0))
    compilation = CompilationConfig(source="", target="", runtime="compass", attention="whole")
    check_vendor(compilation, model, 16384)
    check_vendor(compilation, other, 8192)
    with pytest.raises(OptionError, match="rotates by the base 10000"):
        check_vendor(compilation, other, 16384)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("--for vacc --vendor-scripts x", "--vendor-scripts is for --for compass"),
        ("--for vacc --attention paged", "vacc has no paged attention"),
        ("--for compass --attention lanes", "makes its own"),
        ("--for compass --inspectable", "--inspectable is for graphs over lanes"),
        ("--for compass --split 2", "splits an engine itself"),
        ("--for compass --vendor-scripts /nowhere", "glm2_6b_dyn.py and combine.py are not there"),
    ],
)
def test_options_without_a_counterpart(
    wide: Path, tmp_path: Path, options: str, message: str
) -> None:
    command = ["compile", str(wide), str(tmp_path / "c"), *options.split()]
    parsed = build_parser().parse_args(command)
    with pytest.raises(OptionError, match=message):
        parsed.run(parsed)


@pytest.mark.parametrize("name", ["vacc", "compass"])
def test_such_a_device_says_what_drives_it(name: str) -> None:
    with pytest.raises(DeviceError, match=f"glmserve compile --for {name}"):
        select_device(name)
