# /// script
# requires-python = ">=3.11"
# dependencies = ["pydantic-ai-slim[anthropic,openai]==2.68.0"]
# ///
"""PydanticAI, by its models for chat completions, Responses and Messages."""

from __future__ import annotations

from importlib.metadata import version
from typing import Any, Literal

from anthropic import AsyncAnthropic
from client_tasks import BASE_URL, MODEL, QUESTION, URL, Client
from pydantic_ai import Agent, NativeOutput, ToolOutput
from pydantic_ai.messages import ToolCallPart
from pydantic_ai.models.anthropic import AnthropicModel
from pydantic_ai.models.openai import OpenAIChatModel, OpenAIResponsesModel
from pydantic_ai.profiles import ModelProfile
from pydantic_ai.providers.anthropic import AnthropicProvider
from pydantic_ai.providers.openai import OpenAIProvider
from weather import Weather

SETTINGS = {"temperature": 0, "max_tokens": 100}
ABLE = ModelProfile(supports_json_schema_output=True)


def look_up(place: Literal["here", "there"]) -> str:
    """Look up the weather of a place."""
    return f"It is cold {place}."


def agent(model: Any, **fields: Any) -> Agent:
    if model is AnthropicModel:
        opened = AsyncAnthropic(base_url=URL, api_key="none", max_retries=0)
        provider: Any = AnthropicProvider(anthropic_client=opened)
    else:
        provider = OpenAIProvider(base_url=BASE_URL, api_key="none")
    opened = model(MODEL, provider=provider, profile=ABLE)
    return Agent(opened, instructions="Be brief.", model_settings=SETTINGS, **fields)


async def chat(model: Any) -> None:
    first = await agent(model).run(QUESTION)
    assert first.output
    again = await agent(model).run("Why?", message_history=first.all_messages())
    assert again.output


async def stream(model: Any) -> None:
    async with agent(model).run_stream(QUESTION) as result:
        parts = [part async for part in result.stream_text(delta=True)]
    assert "".join(parts) == (await agent(model).run(QUESTION)).output


async def tool_call(model: Any) -> None:
    """An output of a tool's type makes the agent require the call."""
    result = await agent(model, output_type=ToolOutput(look_up, name="look_up")).run(QUESTION)
    assert result.output.startswith("It is cold")
    calls = [p for m in result.all_messages() for p in m.parts if isinstance(p, ToolCallPart)]
    assert [call.tool_name for call in calls] == ["look_up"]


async def structured_answer(model: Any, kind: Any) -> None:
    asking = agent(model, output_type=kind(Weather), tools=[look_up])
    result = await asking.run(QUESTION)
    assert isinstance(result.output, Weather)


client = Client("PydanticAI", version("pydantic-ai-slim"))
for api, model in {
    "chat completions": OpenAIChatModel,
    "responses": OpenAIResponsesModel,
    "messages": AnthropicModel,
}.items():
    client.add(api, "chat", chat, model)
    client.add(api, "stream", stream, model)
    client.add(api, "tool call", tool_call, model)
    for kind in (NativeOutput, ToolOutput):
        client.add(api, "structured answer", structured_answer, model, kind)
client.run()
