"""The documents: commands and snippets are run or parsed, and links lead somewhere."""

from __future__ import annotations

import functools
import json
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from glmserve import __version__
from glmserve.api.operator.accepted_page import render_page
from glmserve.api.operator.operations import OPERATIONS
from glmserve.cli.api_keys import read_api_keys
from glmserve.cli.main import build_parser
from glmserve.cli.reference import render_reference
from glmserve.config import DEFAULT_TENANT
from glmserve.contract.step import RunnerLimits
from support.server_process import ServerProcess

REPOSITORY = Path(__file__).parents[2]
GUIDE = REPOSITORY / "glmserve" / "guide"
READMES = ("README.md", "README.zh.md")
DOCUMENTS = (
    *READMES,
    "CONTRIBUTING.md",
    "ARCHITECTURE.md",
    "SECURITY.md",
    "CHANGELOG.md",
    "bench/README.md",
    "kernels/README.md",
    *(str(page.relative_to(REPOSITORY)) for page in sorted(GUIDE.glob("*.md"))),
)
SHELL = ("", "bash")
ADDRESS = "http://127.0.0.1:8000"


def blocks(document: str, *languages: str) -> list[str]:
    text = (REPOSITORY / document).read_text()
    found = re.findall(r"^```(\w*)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    return [content for kind, content in found if kind in languages]


def commands(word: str) -> list[str]:
    """Shell lines of all documents that begin with this word, each once."""
    lines = [line for d in DOCUMENTS for block in blocks(d, *SHELL) for line in block.splitlines()]
    return list(dict.fromkeys(line for line in lines if line.startswith(word + " ")))


def python_snippets() -> list[str]:
    """Python of all documents, each snippet once."""
    return list(dict.fromkeys(block for d in DOCUMENTS for block in blocks(d, "python")))


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


@pytest.mark.parametrize("snippet", python_snippets())
def test_python_snippets_work(server: ServerProcess, snippet: str) -> None:
    code = snippet.replace(ADDRESS, server.url)
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert result.stdout.strip()


@pytest.mark.parametrize("command", commands("python"))
def test_scripts_that_are_named_exist_and_know_their_options(command: str) -> None:
    _, script, *arguments = shlex.split(command, comments=True)
    if script == "-m":
        assert arguments[0] in (
            "venv",
            "glmserve",
            "glmserve.cli.reference",
            "glmserve.api.operator.accepted_page",
        )
        return
    usage = usages()[script]
    for option in (a for a in arguments if a.startswith("--")):
        assert option.partition("=")[0] in usage


@pytest.mark.parametrize("readme", READMES)
def test_the_batch_of_a_readme_works(readme: str, tmp_path: Path) -> None:
    """On the null device, which answers at once, with the example of the guide."""
    lines = [line for block in blocks(readme, "bash") for line in block.splitlines()]
    (command,) = (line for line in lines if line.startswith("glmserve batch "))
    (example,) = blocks("glmserve/guide/batches.md", "json")
    (tmp_path / "requests.jsonl").write_text(example)
    _, *arguments = shlex.split(command)
    result = subprocess.run(
        [sys.executable, "-m", "glmserve", *arguments, "--device", "null"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert result.returncode == 0, result.stderr
    answer = json.loads((tmp_path / "answers.jsonl").read_text())
    assert answer["custom_id"] == "request-1"
    assert answer["response"]["status_code"] == 200


@functools.cache
def usages() -> dict[str, str]:
    """The output of `--help` of every script that a document names.

    One process runs them all, because their imports take seconds.
    """
    scripts = sorted({shlex.split(command, comments=True)[1] for command in commands("python")})
    names = [script for script in scripts if script.endswith(".py")]
    result = subprocess.run(
        [sys.executable, Path(__file__).parents[1] / "support" / "usages.py", *names],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout)  # type: ignore[no-any-return]


def test_the_page_of_options_is_what_the_parser_says() -> None:
    """If this fails: python -m glmserve.cli.reference"""
    assert (GUIDE / "options.md").read_text() == render_reference(build_parser())


def test_the_page_of_accepted_fields_is_what_the_tables_say() -> None:
    """If this fails: python -m glmserve.api.operator.accepted_page"""
    assert (GUIDE / "accepted-fields.md").read_text() == render_page()


def test_the_page_of_options_is_complete() -> None:
    usage = subprocess.run(
        [sys.executable, "-m", "glmserve", "serve", "--help"], capture_output=True, text=True
    ).stdout
    page = (GUIDE / "options.md").read_text()
    for option in set(re.findall(r"(?<!\S)--[a-z][a-z-]+", usage)) - {"--help"}:
        assert f"`{option}" in page, f"options.md does not mention {option}"


@pytest.mark.parametrize("readme", READMES)
def test_a_readme_has_at_most_200_lines(readme: str) -> None:
    assert len((REPOSITORY / readme).read_text().splitlines()) <= 200


@pytest.mark.parametrize("document", DOCUMENTS)
def test_links_lead_to_files_and_headings(document: str) -> None:
    page = REPOSITORY / document
    for target in links(page.read_text()):
        if re.match(r"[a-z]+:", target):
            continue  # another site: tests use no network
        path, _, anchor = target.partition("#")
        file = (page.parent / path).resolve() if path else page
        assert file.is_relative_to(REPOSITORY), target
        assert file.exists(), target
        assert not anchor or anchor in anchors(file), target


@pytest.mark.parametrize("page", sorted(GUIDE.glob("*.md")), ids=lambda page: page.name)
def test_links_of_the_guide_work_in_an_installed_package(page: Path) -> None:
    """The package has the guide, but not the repository's other documents."""
    for target in links(page.read_text()):
        if not re.match(r"[a-z]+:", target):
            file = (page.parent / target.partition("#")[0]).resolve()
            assert file.is_relative_to(GUIDE), target


def links(text: str) -> list[str]:
    """Targets of links and pictures, outside of code."""
    prose = re.sub(r"^```.*?^```$|`[^`\n]*`", "", text, flags=re.MULTILINE | re.DOTALL)
    return re.findall(r"\]\(([^)\s]+)\)", prose)


def anchors(file: Path) -> set[str]:
    """Anchors of a page's headings, as GitHub makes them."""
    prose = re.sub(r"^```.*?^```$", "", file.read_text(), flags=re.MULTILINE | re.DOTALL)
    headings = re.findall(r"^#+ (.*)$", prose, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_the_index_of_the_guide_is_complete() -> None:
    index = set(links((GUIDE / "README.md").read_text()))
    assert index == {page.name for page in GUIDE.glob("*.md")} - {"README.md"}


def test_what_proves_a_promise_is_there() -> None:
    proofs = re.findall(r"`pytest ([^`]+)`", (GUIDE / "guarantees.md").read_text())
    assert proofs
    for path in (word for proof in proofs for word in proof.split() if "/" in word):
        assert (REPOSITORY / path).exists(), path


def test_every_error_code_is_in_the_table_of_errors() -> None:
    """A GlmserveError with a code of its own is one that a client can get."""
    page = (GUIDE / "apis.md").read_text()
    sources = "".join(path.read_text() for path in (REPOSITORY / "glmserve").rglob("*.py"))
    codes = re.findall(r'^    code = "(\w+)"$', sources, re.MULTILINE)
    assert codes
    for code in codes:
        assert f"`{code}`" in page, code


def test_every_route_is_in_the_table_of_routes() -> None:
    page = (GUIDE / "apis.md").read_text()
    for operation in OPERATIONS:
        path = re.sub(r"{\w+}", "{id}", operation.path)
        assert f"{path}`" in page, path


def test_modules_that_the_architecture_names_exist() -> None:
    text = (REPOSITORY / "ARCHITECTURE.md").read_text()
    modules = set(re.findall(r"`(\w+(?:/\w+)+\.py)`", text))
    assert modules
    roots = (REPOSITORY, REPOSITORY / "glmserve")
    assert not [m for m in modules if not any((root / m).is_file() for root in roots)]


def test_the_limits_of_a_runner_have_the_names_that_the_guide_gives() -> None:
    named = {name for name in names_in_plugins_guide() if not name.startswith("test_")}
    assert named
    assert named <= set(RunnerLimits.__struct_fields__)


def test_the_checks_of_a_device_are_those_of_the_guide() -> None:
    named = {name for name in names_in_plugins_guide() if name.startswith("test_")}
    files = (REPOSITORY / "glmserve" / "conformance" / "checks").glob("test_*.py")
    assert named == {path.stem for path in files}


def names_in_plugins_guide() -> set[str]:
    """The names in the first columns of tables."""
    rows = re.findall(
        r"^\| (`\w+`(?:, `\w+`)*) \|", (GUIDE / "device-plugins.md").read_text(), re.M
    )
    return {name for row in rows for name in re.findall(r"\w+", row)}


def test_the_metrics_of_the_guide_are_served(server: ServerProcess) -> None:
    page = (GUIDE / "operations.md").read_text()
    named = set(re.findall(r"`(glmserve_\w+)", page))
    served = httpx.get(f"{server.url}/metrics").text
    families = set(re.findall(r"^# TYPE (\w+) ", served, re.MULTILINE))
    optional = ("glmserve_journal_", "glmserve_batch")  # they come with --journal and --batch-dir
    assert {name for name in named if not name.startswith(optional)} <= families
    assert {name for name in families if name.startswith("glmserve_")} <= named | {
        name for name in families if name.endswith("_created")
    }


def test_the_picture_shows_this_version() -> None:
    picture = (GUIDE / "terminal.svg").read_text()
    assert f">glmserve {__version__}</text>" in picture


def test_the_file_of_keys_is_one(tmp_path: Path) -> None:
    file = tmp_path / "keys.txt"
    page = "glmserve/guide/operations.md"
    (example,) = [b for b in blocks(page, "") if b.startswith("# keys.txt")]
    file.write_text(example)
    tenants = {tenant.name for tenant in read_api_keys((), file, DEFAULT_TENANT).values()}
    assert tenants == {"research", "website", "batch"}
