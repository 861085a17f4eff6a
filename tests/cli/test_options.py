"""Options: what is wrong with them is said in one line, and before anything heavy is imported."""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

import pytest

from glmserve.cli import values
from glmserve.cli.main import build_parser
from glmserve.cli.options import config_of, connection_config, runner_config, scheduler_config
from glmserve.cli.options.names import names_of, with_official_names
from glmserve.cli.serve import server_config
from glmserve.config import EMBEDDED_CHECKPOINT, ConnectionConfig, ServerConfig
from glmserve.errors import OptionError


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "glmserve", *arguments], capture_output=True, text=True, timeout=60
    )


def command_parser(name: str) -> argparse.ArgumentParser:
    """The parser of one command."""
    (commands,) = (
        action
        for action in build_parser()._actions
        if isinstance(action, argparse._SubParsersAction)
    )
    parser: argparse.ArgumentParser = commands.choices[name]
    return parser


def test_help_and_version() -> None:
    assert "serve" in run("--help").stdout
    assert "--kv-cache-tokens" in run("serve", "--help").stdout
    assert run("--version").stdout.startswith("glmserve 0.")


def test_options_reach_their_owners() -> None:
    options = build_parser().parse_args(
        "serve --checkpoint ./x/y --device null --dtype bfloat16 --kv-cache-memory 2G --seed 3 "
        "--max-batch-size 7 --max-step-tokens 99 --queue-size 5 --no-prefix-cache "
        "--queue-full-status 406 --api-key k --block-size 8 --max-model-len 77 "
        "--max-body-size 2K --public-metrics --public-docs "
        "--cors-origin https://a.org --cors-origin * --header-timeout 1 --body-timeout 2.5 "
        "--idle-timeout 3 --write-timeout 0 --max-connections 5 --gpu-memory-utilization .5".split()
    )
    runner = runner_config(options)
    assert (runner.checkpoint, runner.device, runner.dtype) == ("x/y", "null", "bfloat16")
    assert (runner.kv_cache_memory, runner.seed, runner.block_size) == (2 * 2**30, 3, 8)
    assert (runner.max_batch_size, runner.max_step_tokens, runner.max_model_len) == (7, 99, 77)
    assert runner.gpu_memory_utilization == 0.5
    scheduler = scheduler_config(options, ())
    assert (scheduler.max_batch_size, scheduler.max_step_tokens) == (7, 99)
    assert (scheduler.queue_size, scheduler.prefix_cache) == (5, False)
    server = server_config(options)
    assert (server.queue_full_status, list(server.api_keys), server.seed) == (406, ["k"], 3)
    assert (server.max_body_size, server.cors_origins) == (2048, ("https://a.org", "*"))
    assert (server.public_metrics, server.public_docs) == (True, True)
    assert connection_config(options) == ConnectionConfig(1.0, 2.5, 3.0, 0.0, 5)


def test_defaults() -> None:
    options = build_parser().parse_args(["serve"])
    assert options.checkpoint == EMBEDDED_CHECKPOINT
    assert server_config(options) == ServerConfig(served_model_name="glm-tiny")


ALIASES = {
    "--max-adapters 7": ["--max-loras 7"],
    "--checkpoint a/b": ["--model a/b", "--model-path a/b", "-m a/b", "a/b"],
    "--max-batch-size 7": ["--max-num-seqs 7", "--max-running-requests 7"],
    "--max-step-tokens 99": ["--max-num-batched-tokens 99", "--max-num-batched-tokens=99"],
    "--max-model-len 77": ["--context-length 77"],
    "--block-size 8": ["--page-size 8"],
    "--kv-cache-tokens 640": ["--max-total-tokens 640"],
    "--tensor-parallel-size 2": ["--tp-size 2", "--tp 2", "-tp 2"],
    "--pipeline-parallel-size 2": ["--pp-size 2", "--pp 2", "-pp 2"],
    "--num-machines 2": ["--nnodes 2"],
    "--machine-rank 1": ["--node-rank 1"],
    "--leader host:1": ["--dist-init-addr host:1"],
    "--prefix-cache": ["--enable-prefix-caching"],
    "--no-prefix-cache": ["--no-enable-prefix-caching"],
}


@pytest.mark.parametrize(("official", "alias"), [(o, a) for o in ALIASES for a in ALIASES[o]])
def test_an_alias_means_the_same_as_its_option(official: str, alias: str) -> None:
    parse = build_parser().parse_args
    assert parse(["serve", *alias.split()]) == parse(["serve", *official.split()])


def test_every_alias_is_tested() -> None:
    parser = command_parser("serve")
    aliases = {alias for action in parser._actions for alias in names_of(action).aliases}
    tested = {alias.split()[0].partition("=")[0] for group in ALIASES.values() for alias in group}
    assert aliases == tested - {"a/b"}


def test_help_shows_the_official_name_and_its_aliases() -> None:
    text = " ".join(command_parser("serve").format_help().split())
    assert "--max-batch-size N largest number" in text
    assert "default: 64, on a GPU" in text
    assert "(alias: --max-num-seqs, --max-running-requests)" in text


def test_a_positional_model_leaves_other_options_alone() -> None:
    options = build_parser().parse_args(["serve", "a/b", "--served-model-name", "x", "--port", "1"])
    assert (str(options.checkpoint), options.served_model_name, options.port) == ("a/b", ["x"], 1)


@pytest.mark.parametrize("arguments", ["a --checkpoint b", "--model b a"])
def test_a_model_is_named_once(arguments: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        build_parser().parse_args(["serve", *arguments.split()])
    assert "not allowed with argument" in capsys.readouterr().err


def test_the_doctor_answers_in_official_names() -> None:
    given = "x --context-length=9 --max-num-seqs 3 --no-enable-prefix-caching --port 1".split()
    assert with_official_names(given, command_parser("serve")._actions) == (
        "x --max-model-len=9 --max-batch-size 3 --no-prefix-cache --port 1".split()
    )


def test_help_names_defaults_where_there_are_any(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        build_parser().parse_args(["serve", "--help"])
    text = capsys.readouterr().out
    assert "(default: 8M)" in text
    assert "(default: 0)" in text
    assert "default: None" not in text
    assert "default: False" not in text


@pytest.mark.parametrize(
    ("arguments", "names"),
    [
        ("--served-model-name a", ("a",)),
        ("--served-model-name a b c/d", ("a", "b", "c/d")),
        ("--served-model-name a b --served-model-name c a", ("a", "b", "c")),
    ],
)
def test_served_names(arguments: str, names: tuple[str, ...]) -> None:
    config = server_config(build_parser().parse_args(["serve", *arguments.split()]))
    assert config.served_model_name == names[0]
    assert config.model_names == names


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
        (["serve", "--api-key", "a b"], "blanks"),
        (["serve", "--api-key-file", "/nowhere/keys"], "/nowhere/keys: no such file"),
        (["serve", "--gpu-memory-utilization", "90"], "like 0.9"),
        (["serve", "--gpu-memory-utilization", "0.9", "--device", "cpu"], "is for GPUs"),
        (["serve", "--host", ""], "must not be empty"),
        (["serve", "--cors-origin", "example.org"], "https://example.org:8443"),
        (["serve", "--cors-origin", "https://example.org/"], "without a path"),
        (["serve", "--max-body-size", "0"], "512M or 4G"),
        (["serve", "--ssl-keyfile", "key.pem"], "--ssl-keyfile goes with --ssl-certfile"),
        (["serve", "--ssl-certfile", "/nowhere/c.pem"], "/nowhere/c.pem: no such file"),
        (["serve", "--served-model-name", "\udcff"], "not valid UTF-8"),
        (["serve", "--kv-cache-memory", "1G", "--kv-cache-tokens", "9"], "give one of them"),
        (["serve", "--max-step-tokens", "8", "--max-batch-size", "9"], "raise it"),
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


def test_a_checkpoint_without_tokenizer_names_the_option(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text((EMBEDDED_CHECKPOINT / "config.json").read_text())
    result = run("serve", "--checkpoint", str(tmp_path), "--port", "0")
    assert result.returncode == 1
    assert "--skip-tokenizer-init" in result.stderr


@pytest.mark.parametrize("command", ["generate --prompt x", "golden compare somewhere"])
def test_every_command_for_devices_has_the_variables_of_npus(
    monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    monkeypatch.setenv("ASCEND_RT_VISIBLE_DEVICES", "3")
    options = build_parser().parse_args([*command.split(), "--dtype", "float16"])
    config = config_of(options, checkpoint="x")
    assert config.npu.visible_devices == "3"
    assert (config.dtype, config.checkpoint) == ("float16", "x")


def test_sizes_of_the_cache_that_contradict_each_other() -> None:
    both = "generate --prompt x --kv-cache-memory 1G --kv-cache-tokens 5".split()
    with pytest.raises(OptionError, match="say the same"):
        config_of(build_parser().parse_args(both))
