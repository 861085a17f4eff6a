"""Claude Code: `claude --print` asks the model, runs its tools, and asks again.

The third argument is the folder with the installed program.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from typing import Any

from client_tasks import MODEL, QUESTION, URL, WEATHER_SCHEMA, Client, check_weather
from forwarder import Forwarder

CLAUDE = f"{sys.argv[3]}/node_modules/.bin/claude"


def ask(forwarder: Forwarder, *arguments: str) -> dict[str, Any]:
    """The result of a turn, as `claude --print --output-format json` reports it."""
    with tempfile.TemporaryDirectory() as folder:
        environment = {
            "HOME": folder,
            "ANTHROPIC_BASE_URL": forwarder.url,
            "ANTHROPIC_API_KEY": "none",
            "ANTHROPIC_MODEL": MODEL,
            "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
            "CLAUDE_CODE_MAX_OUTPUT_TOKENS": "200",
        }
        command = [CLAUDE, "--print", "--output-format", "json", *arguments, "--", QUESTION]
        done = subprocess.run(
            command,
            cwd=folder,
            env=os.environ | environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=200,
        )
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    assert not result["is_error"], result
    return result


def chat() -> None:
    """With all of the program's tools and instructions."""
    with Forwarder(URL) as forwarder:
        assert ask(forwarder)["result"]
    (body,) = forwarder.bodies
    assert body["stream"]
    assert len(body["tools"]) > 5


def tool_call() -> None:
    """The call of a tool that only reads a file, which is not there."""
    paths = (called_path() for _ in range(5))  # one is "" if it was longer than an answer may be
    assert any(paths)


def called_path() -> str:
    """The path in the call that the program has sent back with its result."""
    with Forwarder(URL) as forwarder:
        forwarder.added_once = {"tool_choice": {"type": "tool", "name": "Read"}}
        ask(forwarder, "--tools", "Read", "--system-prompt", "Be brief.")
    call, result = forwarder.bodies[1]["messages"][-2:]
    (used,) = (block for block in call["content"] if block["type"] == "tool_use")
    assert used["id"] in [block.get("tool_use_id") for block in result["content"]]
    path: str = used["input"].get("file_path", "")
    return path


def structured_answer() -> None:
    schema = json.dumps(WEATHER_SCHEMA)
    with Forwarder(URL) as forwarder:
        options = ("--tools", "", "--system-prompt", "Be brief.", "--json-schema", schema)
        forwarder.added_once = {"tool_choice": {"type": "tool", "name": "StructuredOutput"}}
        check_weather(ask(forwarder, *options)["structured_output"])


found = subprocess.run([CLAUDE, "--version"], capture_output=True, text=True, check=True)
client = Client("Claude Code", found.stdout.split()[0])
client.add("messages", "chat", chat)
client.add("messages", "stream", chat)
client.add("messages", "tool call", tool_call)
client.add("messages", "structured answer", structured_answer)
client.run()
