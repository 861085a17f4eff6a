"""Every command and snippet that the documents show is run, or at least understood."""

from __future__ import annotations

import functools
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from glmserve.cli.api_keys import read_api_keys
from glmserve.cli.main import build_parser
from glmserve.config import DEFAULT_TENANT
from support.server_process import ServerProcess

REPOSITORY = Path(__file__).parents[2]
DOCUMENTS = (
    "README.md",
    "CONTRIBUTING.md",
    "ARCHITECTURE.md",
    "bench/README.md",
    "kernels/README.md",
)
ADDRESS = "http://127.0.0.1:8000"


def blocks(document: str, language: str = "") -> list[str]:
    text = (REPOSITORY / document).read_text()
    found = re.findall(r"^```(\w*)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    return [content for kind, content in found if kind == language]


def commands(word: str) -> list[str]:
    """Shell lines of all documents that begin with this word."""
    lines = [line for d in DOCUMENTS for block in blocks(d) for line in block.splitlines()]
    return [line for line in lines if line.startswith(word + " ")]


@pytest.fixture(scope="module")
def server() -> ServerProcess:  # type: ignore[misc]
    with ServerProcess() as process:
        yield process


@pytest.mark.parametrize("command", commands("glmserve"))
def test_commands_of_ours_are_valid(command: str) -> None:
    build_parser().parse_args(shlex.split(command, comments=True)[1:])


@pytest.mark.parametrize("command", commands("curl"))
def test_curl_lines_work(server: ServerProcess, command: str) -> None:
    if shutil.which("curl") is None:
        pytest.skip("curl is not installed")
    arguments = shlex.split(command.replace(ADDRESS, server.url))
    result = subprocess.run(
        [*arguments, "--fail-with-body"], capture_output=True, text=True, timeout=60
    )
    assert result.returncode == 0, result.stdout
    assert result.stdout.strip()


@pytest.mark.parametrize("snippet", blocks("README.md", "python"))
def test_python_snippets_work(server: ServerProcess, snippet: str) -> None:
    code = snippet.replace(ADDRESS, server.url)
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert result.stdout.strip()


@pytest.mark.parametrize("command", commands("python"))
def test_scripts_that_are_named_exist_and_know_their_options(command: str) -> None:
    _, script, *arguments = shlex.split(command, comments=True)
    if script == "-m":
        assert arguments[0] in ("venv", "glmserve")
        return
    usage = usage_of(script)
    for option in (a for a in arguments if a.startswith("--")):
        assert option in usage


@functools.cache
def usage_of(script: str) -> str:
    result = subprocess.run(
        [sys.executable, REPOSITORY / script, "--help"], capture_output=True, text=True
    )
    assert result.returncode == 0, result.stderr
    return result.stdout


def test_the_table_of_options_is_complete() -> None:
    """README names every option of `glmserve serve`."""
    usage = subprocess.run(
        [sys.executable, "-m", "glmserve", "serve", "--help"], capture_output=True, text=True
    ).stdout
    readme = (REPOSITORY / "README.md").read_text()
    for option in set(re.findall(r"--[a-z][a-z-]+", usage)) - {"--help", "--no-prefix-cache"}:
        assert option in readme, f"README does not mention {option}"


def test_what_proves_a_promise_is_there() -> None:
    proofs = re.findall(r"`pytest ([^`]+)`", (REPOSITORY / "README.md").read_text())
    assert proofs
    for path in (word for proof in proofs for word in proof.split() if "/" in word):
        assert (REPOSITORY / path).exists(), path


def test_the_file_of_keys_is_one(tmp_path: Path) -> None:
    file = tmp_path / "keys.txt"
    (example,) = [b for b in blocks("README.md", "") if b.startswith("# keys.txt")]
    file.write_text(example)
    tenants = {tenant.name for tenant in read_api_keys(None, file, DEFAULT_TENANT).values()}
    assert tenants == {"research", "website", "batch"}
