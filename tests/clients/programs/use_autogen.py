# /// script
# requires-python = ">=3.11"
# dependencies = ["autogen-agentchat==0.7.5", "autogen-ext[openai]==0.7.5"]
# ///
"""AutoGen's assistants, alone and in a team, and its OpenAI client."""

from __future__ import annotations

from importlib.metadata import version
from typing import Any, Literal

from autogen_agentchat.agents import AssistantAgent
from autogen_agentchat.conditions import MaxMessageTermination
from autogen_agentchat.teams import RoundRobinGroupChat
from autogen_core import FunctionCall
from autogen_core.models import CreateResult, UserMessage
from autogen_core.tools import FunctionTool
from autogen_ext.models.openai import OpenAIChatCompletionClient
from client_tasks import BASE_URL, MODEL, QUESTION, Client, check_place
from weather import Weather

INFO = {
    "vision": False,
    "function_calling": True,
    "json_output": True,
    "structured_output": True,
    "family": "unknown",
}
ASKED = [UserMessage(content=QUESTION, source="Ann")]


def look_up(place: Literal["here", "there"]) -> str:
    """Look up the weather of a place."""
    return f"It is cold {place}."


def opened(**fields: Any) -> OpenAIChatCompletionClient:
    return OpenAIChatCompletionClient(
        model=MODEL,
        base_url=BASE_URL,
        api_key="none",
        max_retries=0,
        temperature=0,
        max_tokens=100,
        model_info=INFO,
        **fields,
    )


async def chat() -> None:
    """A team: each assistant reads what the others have said, with their names."""
    members = [AssistantAgent(name, model_client=opened()) for name in ("one", "two")]
    team = RoundRobinGroupChat(members, termination_condition=MaxMessageTermination(4))
    result = await team.run(task=QUESTION)
    assert [message.source for message in result.messages] == ["user", "one", "two", "one"]
    assert all(message.content for message in result.messages)


async def stream() -> None:
    parts = [part async for part in opened().create_stream(ASKED, include_usage=True)]
    last = parts.pop()
    assert isinstance(last, CreateResult)
    assert "".join(parts) == last.content == (await opened().create(ASKED)).content
    assert last.usage.completion_tokens > 0


async def tool_call() -> None:
    tool = FunctionTool(look_up, description="Look up the weather.", strict=True)
    called = await opened().create(ASKED, tools=[tool], tool_choice="required")
    (call,) = called.content
    assert isinstance(call, FunctionCall)
    check_place(call.arguments)


async def structured_answer() -> None:
    assistant = AssistantAgent("one", model_client=opened(), output_content_type=Weather)
    result = await assistant.run(task=QUESTION)
    assert isinstance(result.messages[-1].content, Weather)


client = Client("AutoGen", version("autogen-agentchat"))
for works, task in {
    "chat": chat,
    "stream": stream,
    "tool call": tool_call,
    "structured answer": structured_answer,
}.items():
    client.add("chat completions", works, task)
client.run()
