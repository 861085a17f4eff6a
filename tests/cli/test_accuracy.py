"""`glmserve bench accuracy` from outside, on a few of glm-tiny's answers."""

from __future__ import annotations

from pathlib import Path

import pytest

from support.commands import Finished, run_here


def run(*arguments: str) -> Finished:
    return run_here("bench", "accuracy", *arguments)


@pytest.mark.slow
def test_a_few_answers() -> None:
    arguments = "--tokens 300 --dtype float32 --quantization int8 --kv-cache-dtype fp8".split()
    result = run(*arguments, "--device", "cpu")
    assert result.returncode == 0, result.stderr
    text, _, plain, int8, fp8 = result.stdout.splitlines()
    assert " tokens predicted in float32, on cpu" in text
    assert float(plain.split()[1]) < 3  # it learnt these answers
    name, value, perplexity, change, divergence, _, *_ = int8.split()
    assert (name, value) == ("--quantization", "int8")
    assert abs(float(perplexity) - float(plain.split()[1])) < 0.1
    assert 0 < float(change) < 0.1
    assert 0 <= float(divergence) < 0.01
    assert "fp8: only the triton attention backend has it" in fp8


@pytest.mark.slow
def test_a_text(tmp_path: Path) -> None:
    (tmp_path / "text").write_text("从前，一个小模型住在安静的服务器里。", encoding="utf-8")
    result = run("--text", str(tmp_path / "text"), "--converted", str(tmp_path), "--device", "cpu")
    assert result.returncode == 0, result.stderr
    assert result.stdout.splitlines()[-1].endswith("config.json")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ("--text nowhere", "nowhere: No such file"),
        ("--text latin", "latin: is not UTF-8"),
        ("--text empty", "--text empty: too little to predict"),
        ("--tokens 3", "--tokens 3: too little to predict"),
        ("--checkpoint nowhere", "nowhere: no such file or folder"),
        ("--checkpoint {goldens}/glm1_base", "reads texts in both directions"),
        ("--quantization int3", "invalid choice"),
        ("--kv-cache-dtype auto", "invalid choice"),
        ("--chat-format x", "--chat-format x: must be one of"),
    ],
)
def test_what_cannot_be_read_is_said_in_a_line(
    tmp_path: Path,
    golden_models: Path,
    arguments: str,
    said: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "latin").write_bytes(b"\xe4\xf6\xfc")
    (tmp_path / "empty").touch()
    result = run(*arguments.format(goldens=golden_models).split())
    assert result.returncode in (1, 2)
    assert said in result.stderr
    assert "Traceback" not in result.stderr
