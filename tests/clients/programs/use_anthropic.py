# /// script
# requires-python = ">=3.11"
# dependencies = ["anthropic==2.14.0"]
# ///
"""Anthropic's SDK for Python."""

from __future__ import annotations

from importlib.metadata import version
from typing import Any, Literal

import anthropic
from client_tasks import MODEL, PLACE_SCHEMA, QUESTION, URL, Client, check_place
from pydantic import BaseModel

opened = anthropic.Anthropic(base_url=URL, api_key="none", max_retries=0)
ASKED: dict[str, Any] = {
    "model": MODEL,
    "messages": [{"role": "user", "content": QUESTION}],
    "max_tokens": 100,
    "extra_body": {"temperature": 0},  # the SDK no longer has a parameter for it
}
TOOL = {"name": "look_up", "description": "Look up the weather.", "input_schema": PLACE_SCHEMA}


class Weather(BaseModel):
    """The weather of a place: no bounds, because the SDK makes descriptions of them."""

    sky: Literal["clear", "grey"]
    cold: bool


def chat() -> None:
    (block,) = opened.messages.create(**ASKED).content
    assert block.text
    assert opened.messages.count_tokens(model=MODEL, messages=ASKED["messages"]).input_tokens


def stream() -> None:
    with opened.messages.stream(**ASKED) as events:
        text = "".join(events.text_stream)
    assert text == opened.messages.create(**ASKED).content[0].text


def tool_call() -> None:
    answer = opened.messages.create(**ASKED, tools=[TOOL], tool_choice={"type": "any"})
    (call, *_) = (block for block in answer.content if block.type == "tool_use")
    check_place(call.input)


def tool_runner() -> None:
    """The SDK runs tools and asks again until the model calls none."""

    @anthropic.beta_tool
    def look_up(place: Literal["here", "there"]) -> str:
        """Look up the weather of a place."""
        return f"It is cold {place}."

    runner = opened.beta.messages.tool_runner(**ASKED, tools=[look_up], max_iterations=2)
    assert [message.stop_reason for message in runner]


def structured_answer() -> None:
    answer = opened.messages.parse(**ASKED, output_format=Weather)
    assert isinstance(answer.parsed_output, Weather)


client = Client("Anthropic's SDK for Python", version("anthropic"))
client.add("messages", "chat", chat)
client.add("messages", "stream", stream)
client.add("messages", "tool call", tool_call)
client.add("messages", "tool call", tool_runner)
client.add("messages", "structured answer", structured_answer)
client.run()
