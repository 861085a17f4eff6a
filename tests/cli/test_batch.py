"""`glmserve batch` from outside."""

from __future__ import annotations

import fcntl
import json
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from glmserve.cli.batch.answering import answer_file
from glmserve.cli.batch.files import BatchFiles
from glmserve.cli.main import build_parser
from glmserve.errors import OptionError, StartupError
from support.batch_service import CHAT, chat_lines, contents, line
from support.fake_server import serve
from support.live_server import listening

NULL = ("--device", "null")


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, Path, Path]:
    """Input, output and errors; the input has 40 lines."""
    source = tmp_path / "in.jsonl"
    source.write_bytes(chat_lines(40, 5))
    return source, tmp_path / "out.jsonl", tmp_path / "out.errors.jsonl"


def start(*arguments: str | Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "glmserve", "batch", *map(str, arguments)],
        stderr=subprocess.PIPE,
        text=True,
    )


def run(*arguments: str | Path) -> tuple[int, str]:
    """The exit code, and what was printed."""
    process = start(*arguments)
    _, printed = process.communicate(timeout=60)
    return process.returncode, printed


def run_here(*arguments: str | Path) -> int:
    """The same in this process, for what needs no model."""
    options = build_parser().parse_args(["batch", *map(str, arguments)])
    code: int = options.run(options)
    return code


async def ask(url: str, files: tuple[Path, Path, Path], api_key: str = "") -> int:
    """The same beside a server on this event loop."""
    arguments = ["batch", str(files[0]), "-o", str(files[1]), "--url", url]
    options = build_parser().parse_args(arguments)
    return await answer_file(options, BatchFiles(*files), api_key)


def ids(path: Path) -> list[str]:
    return [json.loads(item)["custom_id"] for item in path.read_bytes().splitlines()]


def test_what_is_answered_is_not_asked_again(files: tuple[Path, Path, Path]) -> None:
    source, output, errors = files
    kept = json.dumps({"custom_id": "request-7", "response": "kept"}) + "\n"
    output.write_text(kept + '{"custom_id": "request-8", "resp')  # the process died here
    code, printed = run(source, "-o", output, *NULL)
    assert code == 0, printed
    assert "40 requests are answered" in printed
    assert sorted(ids(output)) == sorted(f"request-{i}" for i in range(40))
    assert output.read_text().startswith(kept)
    assert not errors.exists()


def test_a_killed_run_goes_on(files: tuple[Path, Path, Path]) -> None:
    source, output, _ = files
    source.write_bytes(chat_lines(40, 400))
    arguments = (source, "-o", output, *NULL, "--max-batch-size", "4")
    process = start(*arguments)
    while not output.exists() or output.read_bytes().count(b"\n") < 8:
        time.sleep(0.01)
    process.kill()
    process.communicate()
    assert output.read_bytes().count(b"\n") < 40
    process = start(*arguments)
    while output.read_bytes().count(b"\n") < 20:
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    _, printed = process.communicate(timeout=60)
    assert process.returncode == 130, printed
    assert "the same command goes on" in printed
    code, printed = run(*arguments)
    assert code == 0, printed
    assert sorted(ids(output)) == sorted(f"request-{i}" for i in range(40))


def test_requests_that_cannot_be_answered_have_a_file_and_an_exit_code(
    files: tuple[Path, Path, Path],
) -> None:
    source, output, errors = files
    wrong = line("wrong", messages=[{"role": "user", "content": "a"}], stream=True)
    source.write_bytes(line("embed", "/v1/embeddings", input="a") + b"\n" + wrong)
    code, printed = run(source, "-o", output, *NULL)
    assert code == 3, printed
    assert ids(output) == ["embed"]
    (item,) = map(json.loads, errors.read_text().splitlines())
    assert item["custom_id"] == "wrong"
    assert item["response"]["body"]["error"]["param"] == "stream"


def test_wrong_lines_are_named_before_anything_is_asked(files: tuple[Path, Path, Path]) -> None:
    source, output, _ = files
    source.write_bytes(line("a", n=1) + b"\n" + line("a", n=1) + b"\nnonsense\n")
    with pytest.raises(OptionError, match=r"line 2: custom_id 'a' .*line 3: .* JSON"):
        run_here(source, "-o", output)
    assert not output.exists()


def test_an_output_of_another_input_is_refused(files: tuple[Path, Path, Path]) -> None:
    source, output, _ = files
    output.write_text('{"custom_id": "other"}\n')
    with pytest.raises(OptionError, match="answers to 1 requests that"):
        run_here(source, "-o", output, "--url", "http://127.0.0.1:1")
    output.write_text("a text\n")
    with pytest.raises(OptionError, match="no answer of a batch"):
        run_here(source, "-o", output, "--url", "http://127.0.0.1:1")
    assert output.read_text() == "a text\n"


def test_an_output_that_another_process_writes_is_refused(files: tuple[Path, Path, Path]) -> None:
    source, output, _ = files
    with output.open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        with pytest.raises(OptionError, match="being written by another process"):
            run_here(source, "-o", output, "--url", "http://127.0.0.1:1")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--url", "http://a", "--device", "cpu"), "--device is for a model of this"),
        (("--url", "http://a", "--max-batch-size", "3"), "--max-batch-size is for a model"),
        (("--errors", "in.jsonl"), "must be different files"),
    ],
)
def test_options_that_contradict_each_other(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    arguments: tuple[str, ...],
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(OptionError, match=message):
        run_here("in.jsonl", "-o", "out.jsonl", *arguments)


@pytest.mark.parametrize(
    "url", ["localhost:8000", "ftp://a", "http://", "http://u:p@a", "http://a?b"]
)
def test_what_is_no_url(url: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        run_here("in.jsonl", "-o", "out.jsonl", "--url", url)
    assert "is no URL" in capsys.readouterr().err


def test_a_server_that_is_not_there(files: tuple[Path, Path, Path]) -> None:
    source, output, _ = files
    with pytest.raises(StartupError, match=r"does not answer .*; the same command goes on"):
        run_here(source, "-o", output, "--url", "http://127.0.0.1:1", "--retries", "0")


async def test_a_server_answers(files: tuple[Path, Path, Path]) -> None:
    async with serve() as app, listening(app) as port:
        url = f"http://127.0.0.1:{port}"
        assert await ask(url, files) == 0
    answers = contents(files[1].read_bytes().splitlines())
    assert answers.keys() == {f"request-{i}" for i in range(40)}


@pytest.fixture
def fast_retries(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("glmserve.cli.batch.remote._LONGEST_PAUSE", 0.0)


@pytest.mark.usefixtures("fast_retries")
async def test_what_is_asked_again_and_what_is_not(files: tuple[Path, Path, Path]) -> None:
    source, output, errors = files
    asked: list[str] = []

    async def answer(request: Request) -> Response:
        assert request.headers["authorization"] == "Bearer secret"
        body: dict[str, Any] = await request.json()
        name = str(body["name"])
        asked.append(name)
        if asked.count(name) == 1 and name == "busy":
            return JSONResponse({"error": {}}, 503)
        if asked.count(name) == 1 and name == "html":
            return Response("<html>", 200)
        return JSONResponse({"name": name}, 404 if name == "wrong" else 200)

    source.write_bytes(b"\n".join(line(name, name=name) for name in ("busy", "wrong", "html")))
    app = Starlette(routes=[Route(CHAT, answer, methods=["POST"])])
    async with listening(app) as port:
        url = f"http://127.0.0.1:{port}"
        assert await ask(url, files, "secret") == 3
    assert sorted(asked) == ["busy", "busy", "html", "html", "wrong"]
    assert sorted(ids(output)) == ["busy", "html"]
    assert ids(errors) == ["wrong"]


async def test_a_server_that_refuses_the_key_ends_the_run(files: tuple[Path, Path, Path]) -> None:
    async def refuse(request: Request) -> Response:
        return JSONResponse({"error": {"message": "no such key"}}, 401)

    async with listening(Starlette(routes=[Route(CHAT, refuse, methods=["POST"])])) as port:
        url = f"http://127.0.0.1:{port}"
        with pytest.raises(StartupError, match="no such key"):
            await ask(url, files)
