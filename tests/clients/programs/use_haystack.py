# /// script
# requires-python = ">=3.11"
# dependencies = ["haystack-ai==3.4.1"]
# ///
"""Haystack's OpenAI generators."""

from __future__ import annotations

from importlib.metadata import version
from typing import Annotated, Any, Literal

from client_tasks import BASE_URL, MODEL, QUESTION, Client, check_place
from haystack.components.embedders import OpenAITextEmbedder
from haystack.components.generators.chat import OpenAIChatGenerator
from haystack.dataclasses import ChatMessage
from haystack.tools import tool
from haystack.utils import Secret
from weather import Weather

ASKED = [ChatMessage.from_system("Be brief."), ChatMessage.from_user(QUESTION, name="Ann")]
KEY = Secret.from_token("none")


@tool
def look_up(place: Annotated[Literal["here", "there"], "where"]) -> str:
    """Look up the weather of a place."""
    return f"It is cold {place}."


def generator(**settings: Any) -> OpenAIChatGenerator:
    chosen = {"temperature": 0, "max_completion_tokens": 100, **settings}
    return OpenAIChatGenerator(
        api_key=KEY, model=MODEL, api_base_url=BASE_URL, max_retries=0, generation_kwargs=chosen
    )


def chat() -> None:
    (answer,) = generator().run(ASKED)["replies"]
    assert answer.text
    turns = [*ASKED, answer, ChatMessage.from_user("Why?", name="Ann")]
    assert generator().run(turns)["replies"][0].text


def stream() -> None:
    parts: list[str] = []
    (answer,) = generator().run(ASKED, streaming_callback=lambda c: parts.append(c.content))[
        "replies"
    ]
    assert "".join(parts) == answer.text == generator().run(ASKED)["replies"][0].text


def tool_call() -> None:
    (answer,) = generator(tool_choice="required").run(ASKED, tools=[look_up])["replies"]
    (call, *_) = answer.tool_calls
    check_place(call.arguments)
    result = ChatMessage.from_tool(look_up.invoke(**call.arguments), origin=call)
    assert generator().run([*ASKED, answer, result], tools=[look_up])["replies"]


def structured_answer() -> None:
    (answer,) = generator(response_format=Weather).run(ASKED)["replies"]
    Weather.model_validate_json(answer.text)


def embeddings() -> None:
    embedder = OpenAITextEmbedder(api_key=KEY, model=MODEL, api_base_url=BASE_URL)
    assert embedder.run("It is cold.")["embedding"]


client = Client("Haystack", version("haystack-ai"))
for works, task in {
    "chat": chat,
    "stream": stream,
    "tool call": tool_call,
    "structured answer": structured_answer,
}.items():
    client.add("chat completions", works, task)
client.add("embeddings", "embeddings", embeddings)
client.run()
