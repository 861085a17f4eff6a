# /// script
# requires-python = ">=3.11"
# dependencies = ["litellm==1.110.2"]
# ///
"""LiteLLM, by its ways to OpenAI's and to Anthropic's API."""

from __future__ import annotations

from importlib.metadata import version
from typing import Any

import litellm
from client_tasks import (
    BASE_URL,
    MODEL,
    QUESTION,
    TOOL,
    URL,
    WEATHER_SCHEMA,
    Client,
    check_place,
    check_weather,
)

litellm.suppress_debug_info = True
MESSAGES = [{"role": "user", "content": QUESTION}]
OPENAI = {"model": f"hosted_vllm/{MODEL}", "api_base": BASE_URL}
ANTHROPIC = {"model": f"anthropic/{MODEL}", "api_base": URL}
RESPONSES = {"model": f"openai/{MODEL}", "api_base": BASE_URL}


def ask(way: dict[str, Any], **fields: Any) -> Any:
    settings = {"messages": MESSAGES, "temperature": 0, "max_tokens": 100, "num_retries": 0}
    return litellm.completion(**way, **settings | fields)


def chat(way: dict[str, Any]) -> None:
    answer = ask(way)
    assert answer.choices[0].message.content
    assert answer.usage.completion_tokens > 0
    assert ask(way, max_tokens=None).choices[0].message.content


def stream(way: dict[str, Any]) -> None:
    chunks = list(ask(way, stream=True, stream_options={"include_usage": True}))
    together = litellm.stream_chunk_builder(chunks, messages=MESSAGES)
    assert together.choices[0].message.content == ask(way).choices[0].message.content
    assert together.usage.completion_tokens > 0


def tool_call(way: dict[str, Any]) -> None:
    message = ask(way, tools=[TOOL], tool_choice="required").choices[0].message
    (call, *_) = message.tool_calls
    assert call.function.name == "look_up"
    check_place(call.function.arguments)
    result = {"role": "tool", "tool_call_id": call.id, "content": "It is cold."}
    messages = [*MESSAGES, message.model_dump(), result]
    assert ask(way, tools=[TOOL], messages=messages).choices[0].message


def streamed_tool_call(way: dict[str, Any]) -> None:
    chunks = list(ask(way, tools=[TOOL], tool_choice="required", stream=True))
    together = litellm.stream_chunk_builder(chunks, messages=MESSAGES)
    check_place(together.choices[0].message.tool_calls[0].function.arguments)


def structured_answer(way: dict[str, Any]) -> None:
    schema = {"name": "weather", "schema": WEATHER_SCHEMA, "strict": True}
    answer = ask(way, response_format={"type": "json_schema", "json_schema": schema})
    check_weather(answer.choices[0].message.content)


def tools_with_structured_answer(way: dict[str, Any]) -> None:
    schema = {"name": "weather", "schema": WEATHER_SCHEMA, "strict": True}
    form = {"type": "json_schema", "json_schema": schema}
    message = ask(way, response_format=form, tools=[TOOL]).choices[0].message
    if message.tool_calls:
        check_place(message.tool_calls[0].function.arguments)
    else:
        check_weather(message.content)


def too_long(way: dict[str, Any]) -> None:
    try:
        ask(way, messages=[{"role": "user", "content": "word " * 5000}])
    except litellm.ContextWindowExceededError:
        return
    raise AssertionError("no ContextWindowExceededError")


def responses() -> None:
    answer = litellm.responses(**RESPONSES, input=QUESTION, max_output_tokens=50, num_retries=0)
    assert answer.output[0].content[0].text


client = Client("LiteLLM", version("litellm"))
for api, way in {"chat completions": OPENAI, "messages": ANTHROPIC}.items():
    client.add(api, "chat", chat, way)
    client.add(api, "stream", stream, way)
    client.add(api, "tool call", tool_call, way)
    client.add(api, "tool call", streamed_tool_call, way)
    client.add(api, "structured answer", structured_answer, way)
    client.add(api, "structured answer", tools_with_structured_answer, way)
    client.add(api, "overflow error", too_long, way)
client.add("responses", "chat", responses)
client.run()
