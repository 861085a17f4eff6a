"""`glmserve golden` from outside."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from glmserve.config import EMBEDDED_CHECKPOINT
from support.commands import Finished, run_here


def run(*arguments: str, folder: Path | None = None) -> Finished:
    return run_here("golden", *arguments, folder=folder)


@pytest.fixture(scope="module")
def golden(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The golden of a text, by a reference that is not ours if it is installed."""
    path = tmp_path_factory.mktemp("goldens") / "golden"
    result = run("dump", str(path), "--prompt", "你好，请介绍一下自己。")
    assert result.returncode == 0, result.stderr
    assert result.stdout.startswith(f"{path}: 82 tensors of ")
    return path


@pytest.mark.slow
def test_a_device_that_is_alike(golden: Path, tmp_path: Path) -> None:
    result = run(
        *("compare", str(golden), "--device", "cpu", "--dtype", "float32", "--every-tensor"),
        *("--picture", "errors.svg"),
        folder=tmp_path,
    )
    assert result.returncode == 0, result.stderr
    assert "layers.5.down" in result.stdout
    assert result.stdout.endswith("alike: nothing is beyond the tolerance of 0.0001\n")
    assert (tmp_path / "errors.svg").read_text().count("<title>layers.") == 6 * 10


def test_a_device_that_differs(golden: Path) -> None:
    """The null device has no model, and reports no tensors."""
    result = run("compare", str(golden), "--device", "null")
    assert result.returncode == 1
    assert "does not report its tensors" in result.stdout
    assert result.stdout.splitlines()[-1].startswith("different: the log-probabilities")


@pytest.mark.slow
def test_weights_of_four_bits_need_a_tolerance(golden: Path) -> None:
    result = run("compare", str(golden), "--device", "cpu", "--quantization", "int4")
    assert result.returncode == 2
    assert "convert the checkpoint with glmserve convert" in result.stderr


@pytest.mark.slow
def test_ids_and_another_place_of_the_checkpoint(tmp_path: Path) -> None:
    assert run("dump", "ids", "--token-ids", "5,6,7", folder=tmp_path).returncode == 0
    here = run("compare", "ids", "--checkpoint", str(EMBEDDED_CHECKPOINT), folder=tmp_path)
    assert here.returncode == 0, here.stderr
    other = tmp_path / "other"
    other.mkdir()
    config = json.loads((EMBEDDED_CHECKPOINT / "config.json").read_text())
    (other / "config.json").write_text(json.dumps({**config, "layernorm_epsilon": 0.5}))
    result = run("compare", "ids", "--checkpoint", "other", folder=tmp_path)
    assert result.returncode == 1
    assert "another architecture than that of the golden's checkpoint" in result.stderr


def test_a_prompt_without_the_marks_that_its_model_needs(
    golden_models: Path, tmp_path: Path
) -> None:
    model = str(golden_models / "glm1_base")
    result = run("dump", str(tmp_path / "new"), "--checkpoint", model, "--token-ids", "5,6")
    assert result.returncode == 2
    assert "a prompt of this model needs [gMASK]" in result.stderr
    assert "bug" not in result.stderr


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        ("dump full", 2, "full: exists, and is no empty folder"),
        ("dump new --token-ids 1,x", 2, "no list of token ids"),
        ("dump new --token-ids 99999999", 2, "outside the vocabulary"),
        ("dump new --token-ids 1 --prompt x", 2, "not allowed with"),
        ("dump new --checkpoint nowhere", 1, "nowhere: no such file or folder"),
        ("compare nowhere", 1, "nowhere: no golden; `glmserve golden dump` writes one"),
        ("compare damaged", 1, "cannot be read as a part of a golden"),
        ("compare full --tolerance 0", 2, "0 is not above 0"),
        ("compare full --pipeline-parallel-size 2", 2, "--pipeline-parallel-size: tensors are"),
        ("compare full --tensor-parallel-size 2", 2, "tensors are compared in one process"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(
    tmp_path: Path, arguments: str, code: int, said: str
) -> None:
    for name, text in (("full", "{}"), ("damaged", '{"reference": 5}')):
        (tmp_path / name).mkdir()
        (tmp_path / name / "golden.json").write_text(text)
    result = run(*arguments.split(), folder=tmp_path)
    assert result.returncode == code, result.stderr
    assert said in result.stderr
    assert result.stderr.count("\n") == 1
    assert "Traceback" not in result.stderr
    assert "bug" not in result.stderr
