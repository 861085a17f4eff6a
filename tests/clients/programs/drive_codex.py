"""Codex CLI: `codex exec` asks the model, runs its tools, and asks again.

The third argument is the folder with the installed program.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from client_tasks import MODEL, QUESTION, URL, WEATHER_SCHEMA, Client, check_weather
from forwarder import Forwarder

CODEX = f"{sys.argv[3]}/node_modules/.bin/codex"
CONFIGURATION = """
model = "{model}"
model_provider = "glmserve"

[model_providers.glmserve]
name = "glmserve"
base_url = "{url}/v1"
wire_api = "responses"
request_max_retries = 0
stream_max_retries = 0
"""


def ask(forwarder: Forwarder, *arguments: str) -> list[dict[str, Any]]:
    """The items of a turn, as `codex exec --json` reports them."""
    with tempfile.TemporaryDirectory(dir=sys.argv[3]) as folder:
        configuration = CONFIGURATION.format(model=MODEL, url=forwarder.url)
        Path(folder, "config.toml").write_text(configuration)
        command = [CODEX, "exec", "--skip-git-repo-check", "--json", *arguments, QUESTION]
        done = subprocess.run(
            command,
            cwd=folder,
            env=os.environ | {"CODEX_HOME": folder},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=120,
        )
    events = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    assert events, done.stderr
    assert events[-1]["type"] == "turn.completed", events[-1]
    return [event["item"] for event in events if event["type"] == "item.completed"]


def last_message(items: list[dict[str, Any]]) -> str:
    text: str = [item["text"] for item in items if item["type"] == "agent_message"][-1]
    return text


def chat() -> None:
    with Forwarder(URL) as forwarder:
        assert last_message(ask(forwarder))
    (body,) = forwarder.bodies
    assert body["stream"]
    assert {"function", "namespace", "web_search"} <= {tool["type"] for tool in body["tools"]}


def tool_call() -> None:
    """The call of a tool that only looks for a file."""
    with Forwarder(URL) as forwarder:
        forwarder.added_once = {"tool_choice": {"type": "function", "name": "view_image"}}
        ask(forwarder)
    first, second, *_ = forwarder.bodies
    call, output = second["input"][len(first["input"]) :]
    assert call["type"] == "function_call"
    assert isinstance(json.loads(call["arguments"])["path"], str)
    assert output["type"] == "function_call_output"
    assert output["call_id"] == call["call_id"]


def structured_answer() -> None:
    with Forwarder(URL) as forwarder, tempfile.TemporaryDirectory() as folder:
        schema = Path(folder, "weather.json")
        schema.write_text(json.dumps(WEATHER_SCHEMA))
        forwarder.added_once = {"tool_choice": "none"}  # or the tiny model calls tools forever
        check_weather(last_message(ask(forwarder, "--output-schema", str(schema))))


found = subprocess.run([CODEX, "--version"], capture_output=True, text=True, check=True)
client = Client("Codex CLI", found.stdout.split()[-1])
client.add("responses", "chat", chat)
client.add("responses", "stream", chat)
client.add("responses", "tool call", tool_call)
client.add("responses", "structured answer", structured_answer)
client.run()
