# /// script
# requires-python = ">=3.11"
# dependencies = ["semantic-kernel==1.45.0"]
# ///
"""Semantic Kernel's chat completion service."""

from __future__ import annotations

from enum import Enum
from importlib.metadata import version
from typing import Annotated, Any

from client_tasks import BASE_URL, MODEL, QUESTION, Client, check_place
from openai import AsyncOpenAI
from semantic_kernel import Kernel
from semantic_kernel.connectors.ai.function_choice_behavior import FunctionChoiceBehavior
from semantic_kernel.connectors.ai.open_ai import (
    OpenAIChatCompletion,
    OpenAIChatPromptExecutionSettings,
)
from semantic_kernel.contents import ChatHistory, FunctionCallContent
from semantic_kernel.functions import kernel_function
from weather import Weather


class Place(Enum):
    HERE = "here"
    THERE = "there"


class Forecast:
    """A plugin with one function."""

    @kernel_function(description="Look up the weather of a place.")
    def look_up(self, place: Annotated[Place, "where"]) -> str:
        return f"It is cold {place}."


def service() -> OpenAIChatCompletion:
    opened = AsyncOpenAI(base_url=BASE_URL, api_key="none", max_retries=0)
    return OpenAIChatCompletion(ai_model_id=MODEL, async_client=opened)


def settings(**fields: Any) -> OpenAIChatPromptExecutionSettings:
    return OpenAIChatPromptExecutionSettings(temperature=0, max_tokens=100, **fields)


def history() -> ChatHistory:
    asked = ChatHistory(system_message="Be brief.")
    asked.add_user_message(QUESTION, name="Ann")
    return asked


async def chat() -> None:
    answer = await service().get_chat_message_content(history(), settings())
    assert answer.content
    asked = history()
    asked.add_message(answer)
    asked.add_user_message("Why?")
    assert (await service().get_chat_message_content(asked, settings())).content


async def stream() -> None:
    parts = service().get_streaming_chat_message_content(history(), settings())
    text = "".join([str(part) async for part in parts])
    whole = await service().get_chat_message_content(history(), settings())
    assert text == whole.content


async def tool_call() -> None:
    """The kernel calls the function, and asks again with its result."""
    kernel = Kernel()
    kernel.add_plugin(Forecast(), "forecast")
    choice = FunctionChoiceBehavior.Required(auto_invoke=False)
    answer = await service().get_chat_message_content(
        history(), settings(function_choice_behavior=choice), kernel=kernel
    )
    (call,) = (item for item in answer.items if isinstance(item, FunctionCallContent))
    assert call.function_name == "look_up"
    check_place(call.parse_arguments())
    asked = history()
    choice = FunctionChoiceBehavior.Required(auto_invoke=True)
    await service().get_chat_message_content(
        asked, settings(function_choice_behavior=choice), kernel=kernel
    )
    assert any(message.role == "tool" for message in asked.messages)


async def structured_answer() -> None:
    answer = await service().get_chat_message_content(history(), settings(response_format=Weather))
    Weather.model_validate_json(answer.content)


client = Client("Semantic Kernel", version("semantic-kernel"))
for works, task in {
    "chat": chat,
    "stream": stream,
    "tool call": tool_call,
    "structured answer": structured_answer,
}.items():
    client.add("chat completions", works, task)
client.run()
