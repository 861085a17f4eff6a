"""`glmserve generate` from outside."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from support.commands import Finished, run_here


def run(*arguments: str, stdin: str | None = None) -> Finished:
    """The finished command; it is run in a terminal unless it has an input."""
    return run_here("generate", *arguments, stdin=stdin)


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


def test_stdin_choices_stops_and_logprobs_as_json() -> None:
    result = run(
        *("--json", "--n", "2", "--stop", "tiny", "--logprobs", "1", "--dtype", "float32"),
        stdin="hello\n",
    )
    assert result.returncode == 0, result.stderr
    answer = json.loads(result.stdout)
    assert answer["prompt"] == "hello"
    assert [choice["text"] for choice in answer["choices"]] == ["Hello! I am glm-"] * 2
    choice = answer["choices"][0]
    assert choice["finish_reason"] == "stop"
    assert choice["logprobs"][0]["token"] == "H"
    assert len(choice["logprobs"][0]["top_logprobs"]) == 1
    assert answer["completion_tokens"] >= 2 * len(choice["logprobs"])


def test_files_and_a_pipe_that_are_no_text(tmp_path: Path) -> None:
    files = [tmp_path / "a", tmp_path / "b"]
    for file in files:
        file.write_text(f"{file.name}\n")
    paths = [str(file) for file in files]
    result = run("--file", *paths, *("--device", "null", "--max-tokens", "2", "--n", "2"))
    assert result.returncode == 0, result.stderr
    blocks = result.stdout.split("\n\n")
    assert [block.splitlines()[0] for block in blocks[:-1]] == ["> a", "> b"]
    files[0].write_bytes(b"\xff")
    result = run("--file", paths[0], "--device", "null")
    assert (result.returncode, result.stderr.count("\n")) == (2, 1)
    assert "is not UTF-8" in result.stderr


@pytest.mark.slow
def test_a_text_is_continued() -> None:
    result = run("--prompt", "今天", "--raw", "--max-tokens", "4", "--constant-output")
    assert result.returncode == 0, result.stderr
    assert result.stdout.endswith("\n")
    assert len(result.stdout) > 2


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        ("", 2, "there is no prompt: give a TEXT, --file, --input-tokens, or a pipe"),
        ("a --prompt b", 2, "give prompts in one way"),
        ("a --input-tokens 5", 2, "leave out TEXT"),
        ("--file no-such-file", 2, "--file no-such-file: No such file"),
        ("a --json --report", 2, "leave out --json"),
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
