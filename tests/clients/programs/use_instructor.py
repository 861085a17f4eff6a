# /// script
# requires-python = ">=3.11"
# dependencies = ["instructor==1.17.0"]
# ///
"""Instructor, in its modes with tools and with JSON schemas."""

from __future__ import annotations

from importlib.metadata import version
from typing import Any

import instructor
from client_tasks import BASE_URL, MODEL, QUESTION, Client
from openai import OpenAI
from weather import Weather

MODES = instructor.Mode


ASKING: dict[str, Any] = {
    "model": MODEL,
    "messages": [{"role": "user", "content": QUESTION}],
    "temperature": 0,
    "max_tokens": 100,
    "max_retries": 0,
}


def opened(mode: Any) -> Any:
    client = OpenAI(base_url=BASE_URL, api_key="none", max_retries=0)
    return instructor.from_openai(client, mode=mode)


def chat() -> None:
    answer = opened(MODES.TOOLS).chat.completions.create(response_model=None, **ASKING)
    assert answer.choices[0].message.content


def structured_answer(mode: Any) -> None:
    answer, raw = opened(mode).chat.completions.create_with_completion(
        response_model=Weather, **ASKING
    )
    assert isinstance(answer, Weather)
    assert raw.choices[0].finish_reason in ("stop", "tool_calls")


def stream(mode: Any) -> None:
    parts = list(opened(mode).chat.completions.create_partial(response_model=Weather, **ASKING))
    assert Weather.model_validate(parts[-1].model_dump())


client = Client("Instructor", version("instructor"))
client.add("chat completions", "chat", chat)
for mode in (MODES.TOOLS, MODES.TOOLS_STRICT, MODES.JSON_SCHEMA):
    works = "tool call" if "tool" in mode.value else "structured answer"
    client.add("chat completions", works, structured_answer, mode)
    client.add("chat completions", "stream", stream, mode)
client.run()
