"""Whatever hinders a command from starting: one line with the cause, and an exit code."""

from __future__ import annotations

import ctypes
import errno
import json
import os
import resource
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from glmserve.cli import listening
from glmserve.config import EMBEDDED_CHECKPOINT
from glmserve.errors import OptionError
from support.device_plugin import install_device
from support.exhaustive import exhaustive


def run(*arguments: str, **settings: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "glmserve", *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        **settings,  # type: ignore[call-overload]
    )


def check(result: subprocess.CompletedProcess[str], code: int, said: str) -> None:
    assert result.returncode == code, result.stderr
    assert said in result.stderr
    assert result.stderr.startswith("glmserve")
    assert result.stderr.count("\n") == 1
    assert not result.stdout


class Broken(NamedTuple):
    """A way to break a copy of glm-tiny."""

    damage: Callable[[Path], None]
    code: int
    said: str


def truncate(name: str, size: int) -> Callable[[Path], None]:
    return lambda folder: os.truncate(folder / name, size)


def replace_by_folder(name: str) -> Callable[[Path], None]:
    def replace(folder: Path) -> None:
        (folder / name).unlink()
        (folder / name).mkdir()

    return replace


def write(name: str, text: str) -> Callable[[Path], None]:
    return lambda folder: bool((folder / name).write_text(text)) and None


def remove(*names: str) -> Callable[[Path], None]:
    def unlink(folder: Path) -> None:
        for name in names:
            (folder / name).unlink()

    return unlink


def shrink_vocabulary(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"padded_vocab_size": 9}))


WEIGHTS, CONFIG, TOKENIZER = "model.safetensors", "config.json", "tokenizer.model"

BROKEN = {
    "no weights": Broken(remove(WEIGHTS), 1, "no weights; expected model.safetensors"),
    "truncated weights": Broken(truncate(WEIGHTS, 100_000), 1, "damaged or truncated safetensors"),
    "empty weights": Broken(truncate(WEIGHTS, 0), 1, "damaged or truncated safetensors"),
    "a folder for weights": Broken(replace_by_folder(WEIGHTS), 1, "no weights"),
    "weights of Git LFS": Broken(
        write(WEIGHTS, "version https://git-lfs.github.com/spec/v1\n"), 1, "run git lfs pull"
    ),
    "no config": Broken(remove(CONFIG), 1, "config.json: no such file"),
    "empty config": Broken(truncate(CONFIG, 0), 1, "config.json: not valid JSON"),
    "a folder for config": Broken(replace_by_folder(CONFIG), 1, "config.json: is a folder"),
    "no tokenizer": Broken(remove(TOKENIZER), 1, "--skip-tokenizer-init"),
    "empty tokenizer": Broken(truncate(TOKENIZER, 0), 1, "tokenizer.model"),
    "truncated tokenizer": Broken(truncate(TOKENIZER, 5000), 1, "tokenizer.model"),
    "another tokenizer": Broken(shrink_vocabulary, 1, "they do not belong together"),
}


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    return Path(shutil.copytree(EMBEDDED_CHECKPOINT, tmp_path / "chatglm2-copy"))


ALIKE = {"empty weights", "a folder for weights", "truncated tokenizer"}
"""Found in the same way as others, after torch has been imported."""


@pytest.mark.parametrize(
    "broken",
    [
        pytest.param(broken, id=name, marks=[pytest.mark.exhaustive] if name in ALIKE else [])
        for name, broken in BROKEN.items()
    ],
)
def test_a_broken_checkpoint(copy: Path, broken: Broken) -> None:
    broken.damage(copy)
    check(run("serve", "--checkpoint", str(copy), "--port", "0"), broken.code, broken.said)


@pytest.mark.parametrize("name", [CONFIG, WEIGHTS, TOKENIZER])
def test_a_file_that_may_not_be_read(copy: Path, name: str) -> None:
    (copy / name).chmod(0)
    result = run("serve", "--checkpoint", str(copy), "--port", "0", preexec_fn=obey_permissions)
    check(result, 1, "ermission denied")
    assert name in result.stderr


def obey_permissions() -> None:
    """For the program that this process becomes: root, too, may read only what its mode says."""
    drop_from_bounding_set, override, read_search = 24, 1, 2  # <linux/prctl.h>, capabilities(7)
    if os.geteuid() == 0:
        for capability in (override, read_search):
            ctypes.CDLL(None).prctl(drop_from_bounding_set, capability, 0, 0, 0)


OPTIONS = {
    "an unknown option": (["serve", "--quantisation", "int8"], 2, "unrecognized arguments"),
    "an unknown command": (["surf"], 2, "invalid choice: 'surf'"),
    "no command": ([], 2, "required"),
    "an unknown device": (["serve", "--device", "tpu", "--port", "0"], 2, "known: auto, cuda"),
    "no such host": (["serve", "--host", "no.such.host.invalid"], 2, "give another --host"),
    "a host of another machine": (["serve", "--host", "203.0.113.7"], 2, "0.0.0.0 is all of them"),
    "a checkpoint that is nowhere": (["serve", "--checkpoint", "/no"], 1, "/no: no such file"),
    "no file of weights": (["serve", "--checkpoint", "/dev/null"], 1, "config.json"),
    "a folder for keys": (["serve", "--api-key-file", "/"], 2, "--api-key-file /: is a directory"),
    "too long a context": (["serve", "--max-model-len", "9999"], 2, "more than the 2048 tokens"),
    "too small a cache": (["serve", "--kv-cache-tokens", "32", "--max-model-len", "64"], 2, "too"),
    "too little memory": (["serve", "--kv-cache-memory", "90T"], 1, "lower --kv-cache-tokens or"),
    "too many ranks": (["serve", "--tensor-parallel-size", "4"], 2, "can be cut into 1, 2"),
    "ranks of a device for one": (
        ["serve", "--tensor-parallel-size", "2", "--device", "null"],
        2,
        "the null device computes a model in one process",
    ),
    "stages of a device for one": (
        ["serve", "--pipeline-parallel-size", "2", "--device", "null"],
        2,
        "--pipeline-parallel-size 2: the null device computes a model in one process",
    ),
    "too many stages": (
        ["serve", "--pipeline-parallel-size", "7"],
        2,
        "the model has 6 layers, and each stage needs one",
    ),
    "three ranks": (["serve", "--tensor-parallel-size", "3"], 2, "choose from 1, 2, 4, 8"),
    "no converting there": (["convert", "x", "/proc/x/y", "--quantization", "int8"], 1, "x: no"),
    "a wrong option of doctor": (["doctor", "--nope"], 2, "unrecognized arguments"),
}


LATE = {
    "no such host",
    "a host of another machine",
    "no file of weights",
    "a folder for keys",
    "too little memory",
    "too many ranks",
    "stages of a device for one",
    "too many stages",
}
"""Found in the same way as others, after a process has started."""


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        pytest.param(*case, id=name, marks=[pytest.mark.slow] if name in LATE else [])
        for name, case in OPTIONS.items()
    ],
)
def test_options_that_cannot_be_honoured(arguments: list[str], code: int, said: str) -> None:
    if arguments[:1] == ["serve"] and "--port" not in arguments and "--host" not in arguments:
        arguments = [*arguments, "--port", "0"]
    check(run(*arguments), code, said)


def test_a_gpu_that_is_not_there() -> None:
    import torch

    if torch.cuda.is_available():
        pytest.skip("there is one")
    check(run("serve", "--device", "cuda", "--port", "0"), 1, "--device cuda cannot be used here: ")


PLUGINS = {
    "raises when imported": ("raise ImportError('no driver library')", "no driver library"),
    "has no such class": ("", "cannot be loaded: AttributeError"),
    "raises when made": (
        "class BrokenDevice:\n    def __init__(self): raise OSError('no board')",
        "cannot be loaded: OSError: no board",
    ),
    "raises when asked": (
        "class BrokenDevice:\n    def probe(self): raise OSError('no answer')",
        "--device broken cannot be used here: asking it failed: OSError: no answer",
    ),
}


@pytest.mark.parametrize(
    ("command", "plugin"),
    [
        ("serve", "raises when imported"),
        ("serve", "raises when asked"),
        exhaustive("serve", "has no such class"),
        exhaustive("serve", "raises when made"),
        *(exhaustive("doctor", plugin) for plugin in PLUGINS),
    ],
)
def test_a_broken_plugin(
    command: str, plugin: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, said = PLUGINS[plugin]
    install_device("broken", "BrokenDevice", source, tmp_path, monkeypatch)
    if command == "serve":
        check(run("serve", "--device", "broken", "--port", "0"), 1, said)
    else:
        result = run("doctor", "--device", "broken")
        assert (result.returncode, result.stderr) == (1, "")
        assert said in result.stdout


@pytest.fixture
def taken_port() -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener.getsockname()[1]


def test_a_taken_port(taken_port: int) -> None:
    result = run("serve", "--port", str(taken_port))
    check(result, 2, "address already in use; end what listens there, or give another --port")


def test_a_port_without_permission(monkeypatch: pytest.MonkeyPatch) -> None:
    class Forbidden(socket.socket):
        def bind(self, address: object) -> None:
            raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(listening.socket, "socket", Forbidden)
    refused = pytest.raises(OptionError, match=r"127.0.0.1:80: permission denied; give a --port")
    with refused, listening.listen(listening.Address("127.0.0.1", 80)):
        pass


def test_a_unix_socket(tmp_path: Path) -> None:
    """An abandoned socket is replaced; a live one and a file are not."""
    path = tmp_path / "glm.sock"
    with socket.socket(socket.AF_UNIX) as abandoned:
        abandoned.bind(str(path))
    with listening.listen(listening.Address("", 0, path)) as listener:
        assert listening.url_of(listener, has_tls=False).startswith("http+unix://%2F")
        with pytest.raises(OptionError, match="already in use; give another --uds"):
            listening.listen(listening.Address("", 0, path)).__enter__()
    assert not path.exists()
    path.write_text("precious")
    with pytest.raises(OptionError, match="already in use"):
        listening.listen(listening.Address("", 0, path)).__enter__()
    assert path.read_text() == "precious"
    with pytest.raises(OptionError, match="path too long; give another --uds"):
        listening.listen(listening.Address("", 0, tmp_path / ("x" * 200))).__enter__()


LIMITS = {
    "files": (resource.RLIMIT_NOFILE, 20, "raise the limit (ulimit -n)"),
    "memory": (resource.RLIMIT_AS, 450 * 2**20, "not enough memory for the model"),
}


@pytest.mark.parametrize(("kind", "limit", "said"), LIMITS.values(), ids=LIMITS)
def test_a_low_limit(kind: int, limit: int, said: str) -> None:
    result = run(
        *("serve", "--port", "0"),
        preexec_fn=lambda: resource.setrlimit(kind, (limit, limit)),
    )
    assert result.returncode == 1
    assert said in result.stderr.splitlines()[-1]
    assert "Traceback" not in result.stderr


def test_a_full_disk(tmp_path: Path) -> None:
    result = run(
        *("convert", str(EMBEDDED_CHECKPOINT), str(tmp_path / "new"), "--quantization", "int8"),
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (2**17, 2**17)),
    )
    check(result, 1, "cannot be written")
    assert not list(tmp_path.iterdir())


def test_debug_shows_the_traceback() -> None:
    for arguments in (("serve", "--debug"), ("--debug", "serve")):
        result = run(*arguments, "--checkpoint", "/no")
        assert result.returncode == 1
        assert "Traceback" in result.stderr
        assert result.stderr.splitlines()[-1].startswith("glmserve: error: /no")


@pytest.mark.parametrize("streams", [">&-", "2>&-", "<&-", "<&- >&- 2>&-"])
def test_closed_streams(streams: str, tmp_path: Path) -> None:
    shell = f"{sys.executable} -m glmserve serve --checkpoint /no {streams}"
    assert subprocess.run(["sh", "-c", shell], capture_output=True, timeout=60).returncode == 1


def test_nobody_reads_the_output() -> None:
    command = f"({sys.executable} -m glmserve serve --help; echo code $? >&2) | true"
    shell = subprocess.run(["sh", "-c", command], capture_output=True, text=True, timeout=60)
    assert shell.stderr in ("code 141\n", "code 0\n")


@pytest.mark.parametrize("flag", ["-O", "-OO"])
def test_without_assertions(flag: str) -> None:
    result = subprocess.run(
        [sys.executable, flag, "-m", "glmserve", "serve", "--checkpoint", "/no"],
        capture_output=True,
        text=True,
        timeout=60,
    )
    check(result, 1, "/no: no such file")
