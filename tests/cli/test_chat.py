"""`glmserve chat`: its commands, its loop, remote servers and pipes."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import pytest

from glmserve.cli.chat.answer import Answer
from glmserve.cli.chat.commands import Commands
from glmserve.cli.chat.conversation import Conversation, load
from glmserve.cli.chat.remote import RemoteModel
from glmserve.cli.chat.session import Session
from glmserve.cli.chat.terminal import show
from glmserve.config import ServerConfig
from glmserve.embedded.results import ChatChunk, ChatChunkChoice, Function, Message, ToolCall
from glmserve.errors import GlmserveError, InvalidRequestError
from support.fake_server import serve, tenants
from support.live_server import listening

TOOL = {"type": "function", "function": {"name": "clock", "parameters": {"type": "object"}}}


def chunk(**delta: Any) -> ChatChunk:
    return ChatChunk("id", 0, "m", [ChatChunkChoice(0, Message(**delta))])


class Script:
    """A model and a user who say what they are told to."""

    description = "a script"

    def __init__(self, lines: list[str], answers: list[list[ChatChunk | BaseException]]) -> None:
        self._lines = iter(lines)
        self._answers = iter(answers)
        self.requests: list[dict[str, Any]] = []

    def read(self, prompt: str) -> str:
        line = next(self._lines, None)
        if line is None:
            raise EOFError
        if line == "^C":
            raise KeyboardInterrupt
        return line

    def answering(self) -> AbstractContextManager[None]:
        return nullcontext()

    def stream(self, request: dict[str, Any]) -> Iterator[ChatChunk]:
        self.requests.append(json.loads(json.dumps(request)))
        for item in next(self._answers):
            if isinstance(item, BaseException):
                raise item
            yield item

    def close(self) -> None:
        """Nothing is open."""


def chat(
    lines: list[str], *answers: list[Any], conversation: Conversation | None = None
) -> tuple[Conversation, Script]:
    script = Script(lines, list(answers))
    session = Session(script, conversation or Conversation())
    session.talk(script)
    return session._commands.conversation, script


def test_turns_are_remembered_taken_back_and_answered_again() -> None:
    lines = ["one", "two", "/retry", "/undo", "//three", "/clear", "four"]
    conversation, script = chat(lines, *[[chunk(content=f"{n}")] for n in range(5)])
    contents = [[m["content"] for m in request["messages"]] for request in script.requests]
    assert contents == [
        ["one"],
        ["one", "0", "two"],
        ["one", "0", "two"],
        ["one", "0", "/three"],
        ["four"],
    ]
    assert [m["content"] for m in conversation.messages] == ["four", "4"]


def test_ctrl_c_stops_the_answer_only_and_twice_the_chat() -> None:
    stopped = [chunk(content="so "), chunk(content="far"), KeyboardInterrupt()]
    lines = ["one", "^C", "two", "^C", "^C", "never"]
    conversation, script = chat(lines, stopped, [chunk(content="done")])
    assert [m["content"] for m in conversation.messages] == ["one", "so far", "two", "done"]
    assert len(script.requests) == 2


def test_a_failed_answer_takes_its_message_back(capsys: pytest.CaptureFixture[str]) -> None:
    conversation, _ = chat(["one"], [chunk(content="so"), GlmserveError("the worker is gone")])
    assert conversation.messages == []
    assert "error: the worker is gone" in capsys.readouterr().err


def test_calls_are_answered_by_the_user() -> None:
    parts = [
        chunk(tool_calls=[ToolCall(Function("", "clock"), "call_1", "function", 0)]),
        chunk(tool_calls=[ToolCall(Function('{"a"'), index=0)]),
        chunk(tool_calls=[ToolCall(Function(":1}"), index=0)]),
    ]
    conversation = Conversation(tools=[TOOL])
    conversation, script = chat(
        ["time?", "noon"], parts, [chunk(content="It is noon.")], conversation=conversation
    )
    called, result = script.requests[1]["messages"][1:]
    assert called["tool_calls"][0]["function"] == {"name": "clock", "arguments": '{"a":1}'}
    assert result == {"role": "tool", "tool_call_id": "call_1", "content": "noon"}
    assert conversation.messages[-1]["content"] == "It is noon."
    given_up, _ = chat(["time?", "^C"], parts, conversation=Conversation(tools=[TOOL]))
    assert given_up.messages == []


def test_settings_are_checked_when_they_are_made(tmp_path: Path) -> None:
    commands = Commands(Conversation())
    for line in ("/set temperature 0.5", "/set stop off", "/system Be brief.", "/set stop x y"):
        assert commands.run(line).lines == ""
    assert commands.run("/set").lines == 'temperature = 0.5\nstop = "x y"'
    for line, said in (
        ("/set temperature 5", "error: temperature: "),
        ("/set temperatur 1", "'temperatur' is not supported"),
        ("/set messages []", "is not for /set"),
        ("/load " + str(tmp_path / "none"), "No such file or directory"),
        ("/save " + str(tmp_path), "Is a directory"),
        ("/save", "/save FILE"),
        ("/no", "there is no /no; /help"),
    ):
        assert said in commands.run(line).lines
    assert commands.conversation.fields == {"temperature": 0.5, "stop": "x y"}
    assert commands.run("/set temperature off").lines == ""
    assert "/retry" in commands.run("/help").lines
    tools = tmp_path / "tools.json"
    tools.write_text(json.dumps(TOOL))
    assert commands.run(f"/tools {tools}").lines == "clock"
    tools.write_text('[{"type": "function"}]')
    assert commands.run(f"/tools {tools}").lines.startswith("error: tools.0")
    assert commands.conversation.request()["tools"] == [TOOL]


def test_what_is_saved_is_loaded(tmp_path: Path) -> None:
    path = tmp_path / "chat.json"
    commands = Commands(Conversation("Be brief.", [], {"seed": 1}, [TOOL]))
    commands.conversation.ask("你好")
    commands.run(f"/save {path}")
    assert load(path) == commands.conversation
    path.write_text('[{"role": "system", "content": "s"}, {"role": "user", "content": "u"}]')
    assert commands.run(f"/load {path}").lines == "1 messages"
    assert commands.conversation == Conversation("s", [{"role": "user", "content": "u"}])
    for text in ("{", "5", '{"a": 1}', '{"messages": 5}', '[{"role": "nobody", "content": "a"}]'):
        path.write_text(text)
        with pytest.raises(InvalidRequestError):
            load(path)


def test_a_terminal_gets_no_control_characters(monkeypatch: pytest.MonkeyPatch) -> None:
    written: list[str] = []
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    monkeypatch.setattr("sys.stdout.write", written.append)
    show("a\x1b[2Jb\n\x9bc\x07\t你", False)
    assert "".join(written) == "a[2Jb\nc\t你"


async def test_a_remote_server() -> None:
    config = ServerConfig(served_model_name="fake", api_keys=tenants("secret"))
    async with serve(config=config) as app, listening(app) as port:
        url = f"http://127.0.0.1:{port}"

        def talk() -> tuple[str, Answer, str]:
            model = RemoteModel(url, "secret", None)
            answer, shown = Answer(), list[str]()
            request = Conversation(messages=[{"role": "user", "content": "a"}]).request()
            answer.follow(model.stream(request), lambda text, _: shown.append(text))
            with pytest.raises(InvalidRequestError, match="temperature"):
                next(model.stream({**request, "temperature": 9}))
            with pytest.raises(GlmserveError, match="API key"):
                RemoteModel(url, None, None)
            return model.description, answer, "".join(shown)

        description, answer, shown = await asyncio.to_thread(talk)
    assert description == f"fake at {url}"
    assert shown == answer.content != ""
    assert answer.usage is not None
    assert "tokens read, first token after" in answer.figures()
    with pytest.raises(GlmserveError, match="cannot be reached"):
        RemoteModel(url, None, None)


def run(*arguments: str, stdin: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "glmserve", "chat", *arguments]
    return subprocess.run(command, input=stdin, capture_output=True, text=True, timeout=60)


def test_a_pipe_is_one_message() -> None:
    result = run("--device", "null", "--max-tokens", "5", "--stats", stdin="hi\nthere\n")
    assert result.returncode == 0, result.stderr
    assert result.stdout.endswith("\n")
    assert "5 tokens in" in result.stderr


@pytest.mark.parametrize(
    ("arguments", "stdin", "code", "said"),
    [
        ("", "", 2, "stdin is empty"),
        ("--api-key k", "a", 2, "--api-key is for --url"),
        ("--url http://127.0.0.1:9 nowhere", "a", 2, "leave out --checkpoint"),
        ("--url http://127.0.0.1:9 --device cpu", "a", 2, "leave out --device"),
        ("--url http://127.0.0.1:9", "a", 1, "http://127.0.0.1:9 cannot be reached"),
        ("--load no-such-file", "a", 2, "no-such-file: No such file"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(
    arguments: str, stdin: str, code: int, said: str
) -> None:
    result = run(*arguments.split(), stdin=stdin)
    assert (result.returncode, result.stderr.count("\n")) == (code, 1), result.stderr
    assert said in result.stderr
