"""Options: what is wrong with them is said in one line, and before anything heavy is imported."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from glmserve.cli import values
from glmserve.cli.main import build_parser
from glmserve.cli.serve import runner_config, scheduler_config, server_config
from glmserve.config import EMBEDDED_CHECKPOINT


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "glmserve", *arguments], capture_output=True, text=True, timeout=60
    )


def test_help_and_version() -> None:
    assert "serve" in run("--help").stdout
    assert "--kv-cache-tokens" in run("serve", "--help").stdout
    assert run("--version").stdout.startswith("glmserve 0.")


def test_options_reach_their_owners() -> None:
    options = build_parser().parse_args(
        "serve --checkpoint x/y --device null --dtype bfloat16 --kv-cache-memory 2G --seed 3 "
        "--max-batch-size 7 --max-step-tokens 99 --queue-size 5 --no-prefix-cache "
        "--queue-full-status 406 --api-key k --block-size 8 --max-model-len 77".split()
    )
    runner = runner_config(options)
    assert (runner.checkpoint, runner.device, runner.dtype) == ("x/y", "null", "bfloat16")
    assert (runner.kv_cache_memory, runner.seed, runner.block_size) == (2 * 2**30, 3, 8)
    assert (runner.max_batch_size, runner.max_step_tokens, runner.max_model_len) == (7, 99, 77)
    scheduler = scheduler_config(options)
    assert (scheduler.max_batch_size, scheduler.max_step_tokens) == (7, 99)
    assert (scheduler.queue_size, scheduler.prefix_cache) == (5, False)
    server = server_config(options)
    assert (server.queue_full_status, server.api_key, server.seed) == (406, "k", 3)


def test_the_embedded_model_is_the_default() -> None:
    options = build_parser().parse_args(["serve"])
    assert options.checkpoint == EMBEDDED_CHECKPOINT
    assert server_config(options).served_model_name == "glm-tiny"


def test_the_api_key_may_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GLMSERVE_API_KEY", "from-environment")
    options = build_parser().parse_args(["serve"])
    assert server_config(options).api_key == "from-environment"


@pytest.mark.parametrize(
    ("text", "expected"),
    [("1024", 1024), ("4K", 4096), ("512MiB", 2**29), ("1.5G", 3 * 2**29), ("2 gb", 2**31)],
)
def test_sizes(text: str, expected: int) -> None:
    assert values.num_bytes(text) == expected


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["serve", "--port", "99999"], "ports end at 65535"),
        (["serve", "--kv-cache-memory", "many"], "512M or 4G"),
        (["serve", "--max-batch-size", "0"], "at least 1"),
        (["serve", "--dtype", "int3"], "invalid choice"),
        (["serve", "--queue-full-status", "200"], "at least 400"),
        (["serve", "--no-such-option"], "unrecognized"),
        (["serve", "--max-batch", "3"], "unrecognized"),
        (["serve", "--threads", "9" * 30], "too large"),
        (["serve", "--seed", "9" * 30], "64 bits"),
        (["serve", "--kv-cache-memory", "9" * 30 + "T"], "no size"),
        (["serve", "--api-key", ""], "must not be empty"),
        (["serve", "--host", ""], "must not be empty"),
        (["serve", "--served-model-name", "\udcff"], "not valid UTF-8"),
        (["serve", "--kv-cache-memory", "1G", "--kv-cache-tokens", "9"], "give one of them"),
        (["serve", "--max-step-tokens", "8"], "raise it"),
        (["serve", "--chat-format", "nonsense"], "chatglm2"),
        (["serve", "--host", "203.0.113.7"], "cannot listen on 203.0.113.7"),
        ([], "required"),
    ],
)
def test_wrong_options_exit_with_2(arguments: list[str], said: str) -> None:
    result = run(*arguments)
    assert result.returncode == 2
    assert said in result.stderr
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize(
    ("files", "said"),
    [
        ({}, "config.json: no such file"),
        ({"config.json": "{"}, "not valid JSON"),
        ({"config.json": "[]"}, "expected a JSON object"),
        ({"config.json": '{"model_type": "llama"}'}, "known types: chatglm, glm"),
        ({"config.json": '{"model_type": "chatglm", "hidden_size": "3"}'}, "is missing, expected"),
        ({"config.json": '{"model_type": "chatglm", "num_layers": 1e9}'}, "expected"),
    ],
)
def test_broken_checkpoints_exit_with_1(tmp_path: Path, files: dict[str, str], said: str) -> None:
    for name, content in files.items():
        (tmp_path / name).write_text(content)
    result = run("serve", "--checkpoint", str(tmp_path), "--port", "0")
    assert result.returncode == 1
    assert said in result.stderr
    assert result.stderr.count("\n") == 1


def test_a_path_that_no_file_system_takes_is_one_line() -> None:
    result = run("serve", "--checkpoint", "a" * 5000)
    assert result.returncode == 1
    assert "too long" in result.stderr
    assert result.stderr.count("\n") == 1


def test_an_empty_key_in_the_environment_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GLMSERVE_API_KEY", "")
    result = run("serve", "--device", "null", "--port", "0")
    assert result.returncode == 2
    assert "GLMSERVE_API_KEY must not be empty" in result.stderr


def test_a_checkpoint_without_tokenizer_names_the_option(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text((EMBEDDED_CHECKPOINT / "config.json").read_text())
    result = run("serve", "--checkpoint", str(tmp_path), "--port", "0")
    assert result.returncode == 1
    assert "--skip-tokenizer-init" in result.stderr
