"""`glmserve top`: its picture, its command, and what it says of servers that do not answer."""

from __future__ import annotations

import subprocess
import sys

import httpx
import pytest

from glmserve.cli.main import main
from glmserve.cli.top_view import TopView
from glmserve.config import ServerConfig
from glmserve.engine import Moment, RequestFacts
from glmserve.engine.moment import Ended, Work
from support.fake_server import tenants
from support.threaded_server import threaded_server


def run(*arguments: str) -> int:
    """In this process; the exit code."""
    with pytest.raises(SystemExit) as end:
        main(["top", *arguments])
    return int(end.value.code or 0)


def facts(number: int, arrival: float = 9.0) -> RequestFacts:
    return RequestFacts(number, arrival, "research", 2, 40, 0)


def test_a_picture_of_what_was_told() -> None:
    view = TopView()
    stats = {"running": 1, "waiting": 1, "used_blocks": 16, "prefix_hits": 1, "prefix_queries": 4}
    view.take(Moment(time=10.0, arrived=[facts(7), facts(8), facts(9)], stats=stats, num_blocks=64))
    work = [Work(7, decoded=30, cached=8), Work(9, decoded=1)]
    view.take(
        Moment(
            time=11.0,
            steps=50,
            step_seconds=0.5,
            tokens=31,
            work=work,
            ended=[Ended(9, "stop", 1, 10.9)],
            first_tokens=[0.25],
            gaps=[0.01, 0.02],
            stats=stats,
            num_blocks=64,
        )
    )
    text = "\n".join(view.lines(120, 30))
    for part in (
        *("31 tokens/s", "50 steps/s of 10.0 ms", "running 1   waiting 1", "first token 250 ms"),
        *("between tokens 10.0 ms, 95 % within 20.0 ms", "KV cache 25%", "prompts cached 25%"),
    ):
        assert part in text
    rows = [line.split() for line in text.splitlines()[5:]]
    assert rows == [
        ["7", "research", "2", "decode", "40", "8", "30", "2.0", "s"],
        ["8", "research", "2", "queue", "40", "0", "0", "2.0", "s"],
    ]


def test_it_fits_into_the_terminal() -> None:
    view = TopView()
    view.take(Moment(time=10.0, arrived=[facts(i) for i in range(50)], num_blocks=1))
    lines = view.lines(40, 12)
    assert len(lines) <= 12
    assert max(map(len, lines)) <= 40
    assert lines[-1] == "... and 45 more"


def test_a_server_is_shown_once_where_there_is_no_terminal(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with threaded_server() as url:
        body = {"model": "fake", "prompt": "abc", "max_tokens": 5}
        assert httpx.post(url + "v1/completions", json=body).status_code == 200
        assert run(url) == 0
    assert "tokens/s" in capsys.readouterr().out


def test_a_key_is_asked_for_in_the_servers_words(capsys: pytest.CaptureFixture[str]) -> None:
    config = ServerConfig(served_model_name="fake", api_keys=tenants("user"), admin_key="boss")
    with threaded_server(config=config) as url:
        assert run(url) == 1
        assert "admin key" in capsys.readouterr().err
        assert run(url, "--admin-key", "boss") == 0


def test_a_server_that_is_not_there(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("http://127.0.0.1:1") == 1
    error = capsys.readouterr().err
    assert error.startswith("glmserve: error: http://127.0.0.1:1 does not answer: ")
    assert error.count("\n") == 1


def test_the_command_imports_no_torch() -> None:
    code = "import sys, glmserve.cli.top, glmserve.cli.top_view; assert 'torch' not in sys.modules"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
