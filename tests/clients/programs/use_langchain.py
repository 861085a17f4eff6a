# /// script
# requires-python = ">=3.11"
# dependencies = ["langchain==1.5.2", "langchain-openai==1.7.4"]
# ///
"""LangChain's agents, by OpenAI's two APIs."""

from __future__ import annotations

from importlib.metadata import version
from typing import Any, Literal

from client_tasks import BASE_URL, MODEL, QUESTION, Client, check_place
from langchain.agents import create_agent
from langchain.agents.structured_output import ProviderStrategy, ToolStrategy
from langchain.messages import AIMessage, ToolMessage
from langchain.tools import tool
from langchain_openai import ChatOpenAI
from weather import Weather

ASKED: dict[str, Any] = {"messages": [{"role": "user", "content": QUESTION}]}


@tool(return_direct=True)
def look_up(place: Literal["here", "there"]) -> str:
    """Look up the weather of a place."""
    return f"It is cold {place}."


def opened(responses: bool) -> ChatOpenAI:
    return ChatOpenAI(
        base_url=BASE_URL,
        api_key="none",
        model=MODEL,
        temperature=0,
        max_tokens=100,
        max_retries=0,
        use_responses_api=responses,
    )


def chat(responses: bool) -> None:
    agent = create_agent(opened(responses), system_prompt="Be brief.")
    first = agent.invoke(ASKED)
    assert first["messages"][-1].text
    turns = [*first["messages"], {"role": "user", "content": "Why?"}]
    assert agent.invoke({"messages": turns})["messages"][-1].text


def stream(responses: bool) -> None:
    agent = create_agent(opened(responses))
    chunks = [chunk for chunk, _ in agent.stream(ASKED, stream_mode="messages")]
    assert "".join(chunk.text for chunk in chunks) == agent.invoke(ASKED)["messages"][-1].text


def tool_call(responses: bool) -> None:
    model = opened(responses).bind_tools([look_up], tool_choice="required")
    called = model.invoke(QUESTION)
    (call, *_) = called.tool_calls
    check_place(call["args"])
    result = ToolMessage(look_up.invoke(call["args"]), tool_call_id=call["id"])
    again = opened(responses).bind_tools([look_up]).invoke([("user", QUESTION), called, result])
    assert isinstance(again, AIMessage)


def structured_answer(responses: bool, strategy: Any) -> None:
    agent = create_agent(opened(responses), response_format=strategy(Weather))
    assert isinstance(agent.invoke(ASKED)["structured_response"], Weather)


def structured_answer_with_tools(responses: bool) -> None:
    """The model may call the tool, whose result then ends the run, or give the answer."""
    agent = create_agent(
        opened(responses), tools=[look_up], response_format=ProviderStrategy(Weather)
    )
    result = agent.invoke(ASKED)
    if isinstance(result["messages"][-1], ToolMessage):
        assert result["messages"][-1].text.startswith("It is cold")
    else:
        assert isinstance(result["structured_response"], Weather)


client = Client("LangChain", version("langchain"))
for api, responses in {"chat completions": False, "responses": True}.items():
    client.add(api, "chat", chat, responses)
    client.add(api, "stream", stream, responses)
    client.add(api, "tool call", tool_call, responses)
    client.add(api, "structured answer", structured_answer, responses, ProviderStrategy)
    client.add(api, "structured answer", structured_answer, responses, ToolStrategy)
    client.add(api, "structured answer", structured_answer_with_tools, responses)
client.run()
