"""`glmserve convert` from outside."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from glmserve.config import EMBEDDED_CHECKPOINT
from support.commands import Finished, run_here


def run(*arguments: str, folder: Path | None = None) -> Finished:
    return run_here("convert", *arguments, folder=folder)


def test_help() -> None:
    text = run("--help").stdout
    assert "SOURCE TARGET" in text
    assert "--group-size" in text


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ("a b", "give --quantization, --merge-adapter, or both"),
        ("a b --quantization w4a8", "invalid choice"),
        ("a b --quantization w8a8", "--quantization w8a8 needs --layout modelslim"),
        ("a b --quantization int4 --layout modelslim", "--layout modelslim is for int8 and w8a8"),
        ("a b --quantization int8 --calibration t", "--calibration is for --quantization w8a8"),
        (
            "a b --quantization w8a8 --layout modelslim --group-size 64",
            "--group-size is for int4",
        ),
        (
            "a b --quantization w8a8 --layout modelslim --calibration none",
            "--calibration none: cannot be read: No such file",
        ),
        ("a b --quantization int8 --group-size 64", "--group-size is for int4"),
        ("a b --quantization int4 --group-size 0", "at least 1"),
        ("a full --quantization int8", "full: exists, and is no empty folder"),
        ("a file --quantization int8", "file: exists, and is no empty folder"),
        ("a / --quantization int8", "/: exists"),
        ("a c --quantization int8", "c.partial: left behind by a conversion; remove it"),
        ("a b --merge-adapter x --layout modelslim", "--layout modelslim needs --quantization"),
        (
            "a b --merge-adapter x --quantization w8a8 --layout modelslim --calibration t",
            "--calibration with --merge-adapter",
        ),
        ("a --quantization int8", "TARGET"),
    ],
)
def test_wrong_options_exit_with_2(tmp_path: Path, arguments: str, said: str) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "x").touch()
    (tmp_path / "file").touch()
    (tmp_path / "c.partial").mkdir()
    result = run(*arguments.split(), folder=tmp_path)
    assert result.returncode == 2
    assert said in result.stderr
    assert "Traceback" not in result.stderr


def test_a_calibration_needs_a_tokenizer(tmp_path: Path, golden_models: Path) -> None:
    (tmp_path / "text").write_text("text")
    options = ("--quantization", "w8a8", "--layout", "modelslim", "--calibration", "text")
    result = run(str(golden_models / "glm2_base"), "new", *options, folder=tmp_path)
    assert result.returncode == 1
    assert "--calibration text: the checkpoint has no tokenizer for it" in result.stderr
    result = run("nowhere", "new", *options, folder=tmp_path)
    assert result.stderr == "glmserve: error: nowhere: no such file or folder\n"


def test_a_source_that_is_none_exits_with_1(tmp_path: Path) -> None:
    (tmp_path / "torch.py").write_text("print('this must never be run')")
    result = subprocess.run(
        [sys.executable, "-m", "glmserve", *"convert nowhere new --quantization int8".split()],
        capture_output=True,
        text=True,
        timeout=60,
        cwd=tmp_path,
    )
    assert result.returncode == 1
    assert result.stderr == "glmserve: error: nowhere: no such file or folder\n"
    assert not result.stdout


def test_a_model_whose_columns_do_not_divide_exits_with_2(tmp_path: Path) -> None:
    source = str(EMBEDDED_CHECKPOINT)
    result = run(source, str(tmp_path / "n"), "--quantization", "int4", "--group-size", "128")
    assert result.returncode == 2
    assert "--group-size 128 does not divide the 192 columns" in result.stderr
    assert result.stderr.count("\n") == 1
    assert not list(tmp_path.iterdir())
