"""`glmserve bench load` over servers in this process."""

from __future__ import annotations

import asyncio
import csv
import json
from pathlib import Path
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from glmserve.cli import load
from glmserve.cli.main import build_parser
from glmserve.errors import OptionError, StartupError
from glmserve.load_test.goal import goal, num_good
from glmserve.load_test.result import Result
from support.fake_server import serve
from support.live_server import listening

pytest.importorskip("aiohttp", reason="of the extra bench")


async def run(port: int, *arguments: str | Path) -> int:
    """Test the server of this event loop."""
    url = f"http://127.0.0.1:{port}"
    given = ["bench", "load", "--url", url, *map(str, arguments)]
    options = build_parser().parse_args(given)
    return await asyncio.to_thread(load.run, options)


async def test_a_closed_loop_and_its_files(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    figures, rows, picture = (tmp_path / name for name in ("a.json", "a.csv", "a.png"))
    async with serve() as app, listening(app) as port:
        arguments = ("--requests", "6", "--prompt-tokens", "9", "--output-tokens", "5")
        files = ("--json", figures, "--csv", rows, "--plot", picture, "--slo", "ttft:60000")
        assert await run(port, *arguments, "--concurrency", "3", *files) == 0
    printed = capsys.readouterr().out
    assert "requests          6 (0 errors)" in printed
    assert "100.0 % keep the objectives" in printed
    summary = json.loads(figures.read_text())
    assert (summary["requests"], summary["output_tokens"], summary["good_share"]) == (6, 30, 1.0)
    with rows.open() as file:
        table = list(csv.DictReader(file))
    assert [row["output_tokens"] for row in table] == ["5"] * 6
    assert picture.read_bytes().startswith(b"\x89PNG")


async def test_rates_are_tried_one_after_the_other_and_the_best_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    figures, picture = tmp_path / "a.json", tmp_path / "a.png"
    async with serve() as app, listening(app) as port:
        lengths = ("--prompt-tokens", "9", "--output-tokens", "3")
        arguments = ("--requests", "4", *lengths, "--rates", "200", "100")
        files = ("--json", figures, "--plot", picture)
        assert await run(port, *arguments, "--slo", "ttft:60000", *files) == 0
        assert "best rate within the objectives: 200 conv" in capsys.readouterr().out
        assert await run(port, *arguments, "--slo", "ttft:0.0001") == 0
        assert "no rate keeps the objectives" in capsys.readouterr().out
        assert await run(port, "--requests", "1", "--rates", "100") == 1  # it is too long
        assert "1 errors: 400: " in capsys.readouterr().out
    summary = json.loads(figures.read_text())
    assert [item["rate"] for item in summary["sweep"]] == [100, 200]
    assert summary["best_rate"] == 200
    assert picture.exists()


class Recorder:
    """A server that says what number a question has, and keeps all requests."""

    def __init__(self) -> None:
        self.bodies: list[dict[str, Any]] = []
        routes = [Route("/v1/chat/completions", self.answer, methods=["POST"])]
        self.app = Starlette(routes=[*routes, Route("/v1/models", self.models)])

    async def models(self, request: Request) -> Response:
        return JSONResponse({"data": [{"id": "m"}]})

    async def answer(self, request: Request) -> Response:
        self.bodies.append(await request.json())
        chunk = {"choices": [{"delta": {"content": f"answer {len(self.bodies)}"}}]}
        usage = {"choices": [], "usage": {"prompt_tokens": 1, "completion_tokens": 2}}
        events = [f"data: {json.dumps(event)}\n\n" for event in (chunk, usage)]
        return Response("".join(events) + "data: [DONE]\n\n", media_type="text/event-stream")


async def test_turns_have_the_answers_before_them() -> None:
    recorder = Recorder()
    async with listening(recorder.app) as port:
        arguments = ("--requests", "1", "--warmup", "0", "--turns", "3")
        assert await run(port, *arguments) == 0
    assert [len(body["messages"]) for body in recorder.bodies] == [1, 3, 5]
    last = recorder.bodies[-1]["messages"]
    assert [message["content"] for message in last[1::2]] == ["answer 1", "answer 2"]
    assert last[0] == recorder.bodies[0]["messages"][0]


async def test_conversations_share_prefixes() -> None:
    recorder = Recorder()
    async with listening(recorder.app) as port:
        shape = ("--shared-prefix", "50", "--prefixes", "2", "--prompt-tokens", "10")
        assert await run(port, "--requests", "12", "--warmup", "0", *shape) == 0
    words = [body["messages"][0]["content"].split() for body in recorder.bodies]
    assert {len(text) for text in words} == {60}
    assert len({tuple(text[:50]) for text in words}) == 2
    assert len({tuple(text) for text in words}) == 12


@pytest.mark.parametrize(
    "content",
    [
        json.dumps(
            [
                {"conversations": [{"from": "human", "value": "A"}, {"from": "gpt", "value": "x"}]},
                {"conversations": [{"from": "gpt", "value": "no question"}]},
            ]
        ),
        '{"prompt": "A", "max_tokens": 3}\n\n{"other": 1}\n',
        '{"messages": [{"role": "system", "content": "S"}, {"role": "user", "content": "A"}]}',
    ],
    ids=["ShareGPT", "prompts", "messages"],
)
async def test_conversations_come_from_files(tmp_path: Path, content: str) -> None:
    file, recorder = tmp_path / "data", Recorder()
    file.write_text(content)
    async with listening(recorder.app) as port:
        assert await run(port, "--requests", "2", "--warmup", "0", "--dataset", file) == 0
    assert [body["messages"][-1]["content"] for body in recorder.bodies] == ["A", "A"]
    assert {body["max_tokens"] for body in recorder.bodies} <= {3, 128}


@pytest.mark.parametrize("content", ["", "[]", "[1]", "nonsense", '{"prompt": 1}'])
async def test_files_without_conversations_are_refused(tmp_path: Path, content: str) -> None:
    file, recorder = tmp_path / "data", Recorder()
    file.write_text(content)
    async with listening(recorder.app) as port:
        with pytest.raises(OptionError, match="--dataset"):
            await run(port, "--dataset", file)


@pytest.mark.parametrize(
    "arguments",
    [
        ("--csv", "a.csv", "--rates", "1"),
        ("--dataset", "a", "--shared-prefix", "5"),
        ("--turns", "2", "--endpoint", "completions"),
    ],
)
async def test_options_that_contradict_each_other(arguments: tuple[str, ...]) -> None:
    with pytest.raises(OptionError):
        await run(1, *arguments)


async def test_a_server_that_is_not_there() -> None:
    with pytest.raises(StartupError, match="http://127"):
        await run(1)


async def test_two_results_are_compared(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first, second = tmp_path / "old.json", tmp_path / "new.json"
    for file, rate in ((first, 2.0), (second, 3.0)):
        summary = {"requests_per_second": rate, "ttft_ms": {"p50": 10.0, "p99": 20.0}}
        file.write_text(json.dumps(summary))
    assert await run(1, "--compare", first, second) == 0
    rows = capsys.readouterr().out.splitlines()
    assert rows[0].split() == ["old", "new", "ratio"]
    assert rows[1].split() == ["requests/s", "2.00", "3.00", "1.500"]
    second.write_text("{}")
    with pytest.raises(OptionError, match="no result of"):
        await run(1, "--compare", first, second)


def test_goals() -> None:
    fast = Result(sent=0.0, first=0.1, last=1.0, output_tokens=10)
    slow = Result(sent=0.0, first=0.9, last=1.0, output_tokens=10)
    failed = Result(sent=0.0, error="gone")
    short = Result(sent=0.0, first=0.1, last=0.1, output_tokens=1)
    results = [fast, slow, failed, short]
    assert num_good(results, [goal("ttft:500")]) == 2
    assert num_good(results, [goal("ttft:500"), goal("tpot:50")]) == 1
    assert num_good(results, []) == 3


@pytest.mark.parametrize(
    "text", ["", "ttft", "ttft:", "ttft:x", "ttft:0", "ttft:-1", "ttft:inf", "speed:1"]
)
def test_what_is_no_goal(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        build_parser().parse_args(["bench", "load", "--slo", text])
    assert "write like ttft:500" in capsys.readouterr().err


def test_a_key_does_not_get_into_the_figures() -> None:
    assert load._without_key(["--api-key", "k", "--api-key=k"]) == [
        "--api-key",
        "...",
        "--api-key=...",
    ]
