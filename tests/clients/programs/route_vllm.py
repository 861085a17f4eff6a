# /// script
# requires-python = ">=3.11"
# dependencies = ["vllm-router==0.1.17", "openai==3.57.0"]
# ///
"""vllm-router in front of two replicas, asked by OpenAI's SDK.

The third argument is the URL of the second replica.
"""

from __future__ import annotations

import contextlib
import re
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

from client_tasks import (
    MODEL,
    QUESTION,
    TOOL,
    URL,
    WEATHER_SCHEMA,
    Client,
    check_place,
    check_weather,
)
from openai import OpenAI

REPLICAS = (URL, sys.argv[3])


@contextlib.contextmanager
def router() -> Iterator[str]:
    """The router's URL; it rebuilds each body that it passes on."""
    port, metrics = free_port(), free_port()
    program = Path(sys.executable).with_name("vllm-router")
    command = [str(program), "--worker-urls", *REPLICAS, "--policy", "round_robin"]
    command += ["--port", str(port), "--prometheus-port", str(metrics)]
    process = subprocess.Popen(command, stdout=sys.stderr)
    try:
        url = f"http://127.0.0.1:{port}"
        wait_for(f"{url}/v1/models", process)
        yield url
    finally:
        process.terminate()
        process.wait(20)


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as free:
        return int(free.getsockname()[1])


def wait_for(url: str, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        assert process.poll() is None, "the router has ended"
        with contextlib.suppress(OSError):
            urllib.request.urlopen(url).close()
            return
        time.sleep(0.2)
    raise TimeoutError(url)


def ask(url: str, **fields: Any) -> Any:
    opened = OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0)
    settings = {"messages": [{"role": "user", "content": QUESTION}], "temperature": 0}
    return opened.chat.completions.create(model=MODEL, max_tokens=100, **settings | fields)


def chat(url: str) -> None:
    assert ask(url).choices[0].message.content


def stream(url: str) -> None:
    parts = [chunk.choices[0].delta.content or "" for chunk in ask(url, stream=True)]
    assert "".join(parts) == ask(url).choices[0].message.content


def tool_call(url: str) -> None:
    message = ask(url, tools=[TOOL], tool_choice="required").choices[0].message
    check_place(message.tool_calls[0].function.arguments)


def structured_answer(url: str) -> None:
    schema = {"name": "weather", "schema": WEATHER_SCHEMA, "strict": True}
    answer = ask(url, response_format={"type": "json_schema", "json_schema": schema})
    check_weather(answer.choices[0].message.content)


def completion(url: str) -> None:
    opened = OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0)
    answer = opened.completions.create(model=MODEL, prompt="It is", max_tokens=5, temperature=0)
    assert answer.choices[0].text


def response(url: str) -> None:
    opened = OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0)
    answer = opened.responses.create(model=MODEL, input=QUESTION, max_output_tokens=50)
    assert answer.output_text


def both_replicas(url: str) -> None:
    before = [answers_of(replica) for replica in REPLICAS]
    for _ in range(4):
        chat(url)
    after = [answers_of(replica) for replica in REPLICAS]
    assert all(more > less for more, less in zip(after, before, strict=True)), (before, after)


def answers_of(replica: str) -> float:
    with urllib.request.urlopen(f"{replica}/metrics") as answer:
        text = answer.read().decode()
    return sum(
        float(n) for n in re.findall(r"^glmserve_requests_finished_total\S* (\S+)$", text, re.M)
    )


client = Client("vllm-router, two replicas", version("vllm-router"))
with router() as url:
    client.add("chat completions", "chat", chat, url)
    client.add("chat completions", "stream", stream, url)
    client.add("chat completions", "tool call", tool_call, url)
    client.add("chat completions", "structured answer", structured_answer, url)
    client.add("chat completions", "both replicas answer", both_replicas, url)
    client.add("completions", "completion", completion, url)
    client.add("responses", "chat", response, url)
    client.run()
