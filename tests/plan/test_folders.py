"""Folders as other programs leave them: names, encodings, and what is not a model."""

from __future__ import annotations

import argparse
import json
import os
import shlex
import subprocess
from pathlib import Path
from typing import Any

import pytest

from glmserve.cli import values
from glmserve.config import RunnerConfig
from glmserve.contract.wire import decode_json, encode_config_frame, encode_json
from glmserve.errors import CheckpointError
from glmserve.journal import fingerprint
from glmserve.model_config import model_name, name_hints, read_model_config
from glmserve.model_config.reader import read_json_object
from glmserve.process.paths import readable_name, shell_quoted, utf8_alias
from tests.plan.test_model_config import CHATGLM2

GBK = os.fsdecode(b"\xc4\xa3\xd0\xcd")
NOT_TEXT = os.fsdecode(b"\xff\xfe")


def _snapshot(cache: Path, repository: str, revision: str = "abc123") -> Path:
    snapshot = cache / repository / "snapshots" / revision
    snapshot.mkdir(parents=True)
    (snapshot / "config.json").write_text(json.dumps(CHATGLM2))
    return snapshot


@pytest.mark.parametrize(
    ("repository", "name"),
    [
        ("models--THUDM--chatglm3-6b", "chatglm3-6b"),
        ("models--org--a--b", "a--b"),
        ("models--solo", "solo"),
    ],
)
def test_a_snapshot_has_its_repositorys_name(tmp_path: Path, repository: str, name: str) -> None:
    snapshot = _snapshot(tmp_path, repository)
    assert model_name(snapshot) == name
    assert name_hints(snapshot)[-1] == name
    assert model_name(snapshot.parent) == "snapshots"


def test_the_main_branch_of_a_cached_model(tmp_path: Path) -> None:
    first = _snapshot(tmp_path, "models--org--name", "aaa")
    root = tmp_path / "models--org--name"
    assert values.checkpoint(str(root)) == first
    second = _snapshot(tmp_path, "models--org--name", "bbb")
    with pytest.raises(argparse.ArgumentTypeError, match="no refs/main, and 2 snapshots"):
        values.checkpoint(str(root))
    (root / "refs").mkdir()
    (root / "refs" / "main").write_text("bbb\n")
    assert values.checkpoint(str(root)) == second
    assert values.checkpoint(str(first)) == first
    assert values.checkpoint(str(tmp_path)) == tmp_path


@pytest.mark.parametrize(
    ("name", "readable"),
    [("chatglm3-6b", "chatglm3-6b"), ("模型", "模型"), (GBK, "模型"), (NOT_TEXT, "\\xff\\xfe")],
)
def test_names_become_text(tmp_path: Path, name: str, readable: str) -> None:
    assert readable_name(name) == readable
    folder = tmp_path / name
    folder.mkdir()
    assert model_name(folder) == readable


def test_a_path_that_is_not_utf8_reaches_the_worker() -> None:
    config = RunnerConfig(checkpoint=f"/models/{GBK}", ptuning_checkpoint=NOT_TEXT, cpus=(1, 2))
    assert decode_json(encode_json(config), RunnerConfig) == config
    assert encode_config_frame(config)[4:] == encode_json(config)


def test_a_shell_reads_the_path_that_is_advised() -> None:
    for argument in ("plain", "with blank", f"/models/{GBK}", f"/it's/{NOT_TEXT}\\"):
        command = f"printf %s {shell_quoted(argument)}"
        printed = subprocess.run(["bash", "-c", command], capture_output=True, check=True).stdout
        assert printed == os.fsencode(argument)
    assert shell_quoted("with blank") == shlex.quote("with blank")


def test_libraries_get_a_path_in_utf8(tmp_path: Path) -> None:
    folder = tmp_path / GBK
    folder.mkdir()
    for name in ("file", NOT_TEXT):
        (folder / name).write_text("content")
        with utf8_alias(folder / name) as alias:
            str(alias).encode()
            assert alias.read_text() == "content"
    with utf8_alias(folder / "new") as alias:
        alias.write_text("written")
    assert (folder / "new").read_text() == "written"
    with utf8_alias(tmp_path / "plain") as alias:
        assert alias == tmp_path / "plain"


def test_a_journal_beside_such_files(tmp_path: Path) -> None:
    (tmp_path / f"{NOT_TEXT}.json").write_text("{}")
    assert len(fingerprint([tmp_path], [])) == 32


def test_a_byte_order_mark_is_passed_over(tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    path.write_bytes(b"\xef\xbb\xbf" + json.dumps(CHATGLM2).encode())
    assert read_model_config(tmp_path).num_layers == 28


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        ("{}".encode("utf-16"), "is encoded in UTF-16; save it as UTF-8"),
        ("{}".encode("utf-16-be"), "not valid JSON"),
        ('{"型": 1}'.encode("gbk"), "byte 2 is not UTF-8"),
        (b'{"a": 1,}', "is the comma before it one too many?"),
        (b'{"a": [1, 2,\n]}', "is the comma before it one too many?"),
        (b'{"a": 1', "not valid JSON"),
        (b"// comment\n{}", "not valid JSON"),
        (b"[1]", "expected a JSON object"),
    ],
)
def test_what_is_not_json_in_utf8(tmp_path: Path, content: bytes, complaint: str) -> None:
    path = tmp_path / "config.json"
    path.write_bytes(content)
    with pytest.raises(CheckpointError) as error:
        read_json_object(path)
    assert complaint in error.value.message
    assert str(path) in error.value.message


def _refusal(folder: Path) -> str:
    with pytest.raises(CheckpointError) as error:
        read_model_config(folder)
    assert "\n" not in error.value.message
    return error.value.message


@pytest.mark.parametrize(
    ("adapter", "expected"),
    [
        (
            {"peft_type": "LORA", "base_model_name_or_path": "THUDM/chatglm3-6b"},
            "only an adapter (LORA adapter for 'THUDM/chatglm3-6b'), not a model",
        ),
        ({}, "only an adapter (adapter), not a model"),
    ],
)
def test_an_adapter_alone(tmp_path: Path, adapter: dict[str, Any], expected: str) -> None:
    (tmp_path / "adapter_config.json").write_text(json.dumps(adapter))
    (tmp_path / "adapter_model.safetensors").touch()
    message = _refusal(tmp_path)
    assert expected in message
    assert "serve its base model with --adapter NAME=FOLDER" in message
    (tmp_path / "config.json").write_text(json.dumps(CHATGLM2))
    assert expected in _refusal(tmp_path)
    (tmp_path / "model.safetensors").touch()
    assert read_model_config(tmp_path).num_layers == 28


@pytest.mark.parametrize(
    ("config", "method"),
    [
        ({"quant_method": "gptq", "bits": 4}, "by GPTQ,"),
        ({"quant_method": "awq", "version": "gemm"}, "by AWQ,"),
        ({"quant_method": "bitsandbytes", "load_in_4bit": True}, "by bitsandbytes,"),
        ({"load_in_8bit": True}, "by bitsandbytes,"),
        (
            {"quant_method": "compressed-tensors", "format": "float-quantized"},
            "by compressed-tensors (float-quantized),",
        ),
        ({"quant_method": "fp8", "fmt": "e4m3"}, "by FP8 (e4m3),"),
        ({"quant_method": "newest"}, "by newest,"),
        ({"bits": 4}, "by an unknown method,"),
    ],
)
@pytest.mark.parametrize("key", ["quantization_config", "compression_config"])
def test_other_quantisations(tmp_path: Path, key: str, config: dict[str, Any], method: str) -> None:
    (tmp_path / "config.json").write_text(json.dumps(CHATGLM2 | {key: config}))
    assert method in _refusal(tmp_path)


@pytest.mark.parametrize(
    ("file", "method"), [("quantize_config.json", "GPTQ"), ("quant_config.json", "AWQ")]
)
def test_quantisations_in_a_file_of_their_own(tmp_path: Path, file: str, method: str) -> None:
    (tmp_path / "config.json").write_text(json.dumps(CHATGLM2))
    (tmp_path / file).write_text("{}")
    message = _refusal(tmp_path)
    assert method in message
    assert file in message
