# /// script
# requires-python = ">=3.11"
# dependencies = ["openai-agents==0.24.0"]
# ///
"""OpenAI's Agents SDK, by both of its models: Responses and chat completions."""

from __future__ import annotations

from importlib.metadata import version
from typing import Any, Literal

from agents import (
    Agent,
    ModelSettings,
    OpenAIChatCompletionsModel,
    OpenAIResponsesModel,
    Runner,
    function_tool,
    set_tracing_disabled,
)
from client_tasks import BASE_URL, MODEL, QUESTION, Client, check_place
from openai import AsyncOpenAI
from weather import Weather

set_tracing_disabled(True)
SETTINGS = {"temperature": 0, "max_tokens": 100}


@function_tool
def look_up(place: Literal["here", "there"]) -> str:
    """Look up the weather of a place."""
    return f"It is cold {place}."


def agent(model: Any, *, settings: dict[str, Any] | None = None, **fields: Any) -> Agent:
    opened = model(MODEL, AsyncOpenAI(base_url=BASE_URL, api_key="none", max_retries=0))
    chosen = ModelSettings(**SETTINGS, **settings or {})
    return Agent(
        name="Forecaster", instructions="Be brief.", model=opened, model_settings=chosen, **fields
    )


async def chat(model: Any) -> None:
    result = await Runner.run(agent(model), QUESTION)
    assert result.final_output
    turns = [*result.to_input_list(), {"role": "user", "content": "Why?"}]
    assert (await Runner.run(agent(model), turns)).final_output


async def stream(model: Any) -> None:
    result = Runner.run_streamed(agent(model), QUESTION)
    text = ""
    async for event in result.stream_events():
        if event.type == "raw_response_event" and event.data.type == "response.output_text.delta":
            text += event.data.delta
    assert text
    assert text == result.final_output


async def tool_call(model: Any) -> None:
    """The SDK calls the tool, and asks again with its result."""
    asking = agent(model, tools=[look_up], settings={"tool_choice": "required"})
    result = await Runner.run(asking, QUESTION)
    (call,) = (item for item in result.new_items if item.type == "tool_call_item")
    check_place(call.raw_item.arguments)
    (answer,) = (item for item in result.new_items if item.type == "tool_call_output_item")
    assert answer.output.startswith("It is cold")


async def structured_answer(model: Any) -> None:
    result = await Runner.run(agent(model, output_type=Weather), QUESTION)
    assert isinstance(result.final_output, Weather)


async def structured_answer_with_tools(model: Any) -> None:
    """The model may call the tool, or give the answer."""
    asking = agent(
        model, output_type=Weather, tools=[look_up], tool_use_behavior="stop_on_first_tool"
    )
    result = await Runner.run(asking, QUESTION)
    calls = [item for item in result.new_items if item.type == "tool_call_item"]
    if calls:
        check_place(calls[0].raw_item.arguments)
    else:
        assert isinstance(result.final_output, Weather)


client = Client("OpenAI Agents SDK", version("openai-agents"))
for api, model in {
    "responses": OpenAIResponsesModel,
    "chat completions": OpenAIChatCompletionsModel,
}.items():
    client.add(api, "chat", chat, model)
    client.add(api, "stream", stream, model)
    client.add(api, "tool call", tool_call, model)
    client.add(api, "structured answer", structured_answer, model)
    client.add(api, "structured answer", structured_answer_with_tools, model)
client.run()
