"""`glmserve generate` from outside."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "glmserve", "generate", *arguments],
        capture_output=True,
        text=True,
        timeout=60,
    )


def test_an_answer_and_the_report() -> None:
    result = run("--prompt", "你好", "--report", "--dtype", "float32")
    assert result.returncode == 0, result.stderr
    answer, device, *table = result.stdout.splitlines()
    assert answer.startswith("你好！我是 glm-tiny")
    assert device.startswith("device: cpu (")
    assert [line.split()[0] for line in table] == ["tokens", "base", "incremental", "total"]


@pytest.mark.slow
def test_several_prompts() -> None:
    """Each gets what it gets alone."""
    result = run("--prompt", "你好", "hello", "--max-tokens", "12", "--dtype", "float32")
    assert re.fullmatch(r"> 你好\n你好！.+\n\n> hello\nHello! .+\n\n", result.stdout), result.stdout


def test_random_prompts_and_a_constant_output() -> None:
    result = run(
        *("--input-tokens", "20", "--batch-size", "3", "--max-tokens", "9"),
        *("--constant-output", "--report", "--device", "null"),
    )
    assert result.returncode == 0, result.stderr
    counts = [int(line.split()[1]) for line in result.stdout.splitlines()[2:]]
    assert counts == [60, 3 * 8, 60 + 3 * 9]


@pytest.mark.slow
def test_a_text_is_continued() -> None:
    result = run("--prompt", "今天", "--raw", "--max-tokens", "4", "--constant-output")
    assert result.returncode == 0, result.stderr
    assert result.stdout.endswith("\n")
    assert len(result.stdout) > 2


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        ("", 2, "one of the arguments --prompt --input-tokens is required"),
        ("--prompt a --input-tokens 5", 2, "not allowed with"),
        ("--prompt a --batch-size 2", 2, "--batch-size is for --input-tokens"),
        ("--input-tokens 5 --raw", 2, "--raw is for --prompt"),
        ("--prompt a --temperature 3", 2, "is not between 0 and 2"),
        ("--prompt a --checkpoint nowhere", 1, "nowhere: no such file or folder"),
        ("--prompt a --device no-such", 2, "--device no-such: unknown"),
        ("--input-tokens 99999 --device null", 1, "maximum context length"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(
    tmp_path: Path, arguments: str, code: int, said: str
) -> None:
    result = run(*arguments.split())
    assert result.returncode == code, result.stderr
    assert said in result.stderr
    assert result.stderr.count("\n") == 1
    assert "Traceback" not in result.stderr
    assert "bug" not in result.stderr
