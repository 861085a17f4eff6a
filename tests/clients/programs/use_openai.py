# /// script
# requires-python = ">=3.11"
# dependencies = ["openai==3.57.0"]
# ///
"""OpenAI's SDK for Python, by both of its APIs for generated text."""

from __future__ import annotations

from importlib.metadata import version
from typing import Any, Literal

import openai
from client_tasks import BASE_URL, MODEL, QUESTION, Client, check_place
from pydantic import BaseModel
from weather import Weather

opened = openai.OpenAI(base_url=BASE_URL, api_key="none", max_retries=0)
ASKED: dict[str, Any] = {
    "model": MODEL,
    "messages": [{"role": "user", "content": QUESTION}],
    "temperature": 0,
    "max_tokens": 100,
}
INPUT: dict[str, Any] = {
    "model": MODEL,
    "input": QUESTION,
    "temperature": 0,
    "max_output_tokens": 100,
}


class LookUp(BaseModel):
    """Look up the weather of a place."""

    place: Literal["here", "there"]


def chat() -> None:
    assert opened.chat.completions.create(**ASKED).choices[0].message.content


def stream() -> None:
    with opened.chat.completions.stream(**ASKED) as events:
        text = "".join(event.delta for event in events if event.type == "content.delta")
    assert text == opened.chat.completions.create(**ASKED).choices[0].message.content


def tool_call() -> None:
    tools = [openai.pydantic_function_tool(LookUp)]
    answer = opened.chat.completions.parse(**ASKED, tools=tools, tool_choice="required")
    (call, *_) = answer.choices[0].message.tool_calls or []
    assert isinstance(call.function.parsed_arguments, LookUp)


def structured_answer() -> None:
    answer = opened.chat.completions.parse(**ASKED, response_format=Weather)
    assert isinstance(answer.choices[0].message.parsed, Weather)


def response() -> None:
    first = opened.responses.create(**INPUT)
    assert first.output_text
    again = opened.responses.create(
        model=MODEL, input="Why?", previous_response_id=first.id, max_output_tokens=20
    )
    assert again.usage and first.usage
    assert again.usage.input_tokens > first.usage.input_tokens


def streamed_response() -> None:
    with opened.responses.stream(**INPUT) as events:
        text = "".join(e.delta for e in events if e.type == "response.output_text.delta")
    assert text == opened.responses.create(**INPUT).output_text


def call_in_response() -> None:
    tools = [openai.pydantic_function_tool(LookUp)["function"] | {"type": "function"}]
    answer = opened.responses.create(**INPUT, tools=tools, tool_choice="required")
    check_place(next(item for item in answer.output if item.type == "function_call").arguments)


def structured_response() -> None:
    assert isinstance(opened.responses.parse(**INPUT, text_format=Weather).output_parsed, Weather)


def embeddings() -> None:
    assert opened.embeddings.create(model=MODEL, input=["It is cold."]).data[0].embedding


client = Client("OpenAI's SDK for Python", version("openai"))
client.add("chat completions", "chat", chat)
client.add("chat completions", "stream", stream)
client.add("chat completions", "tool call", tool_call)
client.add("chat completions", "structured answer", structured_answer)
client.add("responses", "chat", response)
client.add("responses", "stream", streamed_response)
client.add("responses", "tool call", call_in_response)
client.add("responses", "structured answer", structured_response)
client.add("embeddings", "embeddings", embeddings)
client.run()
