"""The tasks of ZhipuAI's two SDKs, which have the same interface."""

from __future__ import annotations

from typing import Any

from client_tasks import QUESTION, TOOL, WEATHER_SCHEMA, Client, check_place, check_weather


def add_tasks(client: Client, opened: Any, model: str) -> None:
    """Add the tasks of an opened SDK client."""

    def ask(**fields: Any) -> Any:
        asked = [{"role": "user", "content": QUESTION}]
        settings = {"messages": asked, "do_sample": False, "max_tokens": 100}
        thinking = {"type": "disabled"}
        return opened.chat.completions.create(
            model=model, thinking=thinking, request_id="1", user_id="reader", **settings | fields
        )

    def chat() -> None:
        answer = ask()
        assert answer.choices[0].message.content
        assert answer.usage.completion_tokens > 0

    def stream() -> None:
        parts = [chunk.choices[0].delta.content or "" for chunk in ask(stream=True)]
        assert "".join(parts) == ask().choices[0].message.content

    def tool_call() -> None:
        message = ask(tools=[TOOL], tool_choice="required").choices[0].message
        (call, *_) = message.tool_calls
        check_place(call.function.arguments)
        turns = [
            {"role": "user", "content": QUESTION},
            message.model_dump(),
            {"role": "tool", "tool_call_id": call.id, "content": "It is cold."},
        ]
        assert ask(messages=turns, tools=[TOOL], tool_choice="auto").choices

    def streamed_tool_call() -> None:
        chunks = list(ask(tools=[TOOL], tool_choice="required", stream=True))
        calls = [c.choices[0].delta.tool_calls for c in chunks if c.choices[0].delta.tool_calls]
        check_place("".join(call.function.arguments or "" for (call, *_) in calls))

    def structured_answer() -> None:
        form = {"type": "json_object", "schema": WEATHER_SCHEMA}
        check_weather(ask(response_format=form).choices[0].message.content)

    def embeddings() -> None:
        answer = opened.embeddings.create(model=model, input=["It is cold."])
        assert answer.data[0].embedding

    for works, task in {
        "chat": chat,
        "stream": stream,
        "tool call": tool_call,
        "streamed tool call": streamed_tool_call,
        "structured answer": structured_answer,
    }.items():
        client.add("chat completions", works.removeprefix("streamed "), task)
    client.add("embeddings", "embeddings", embeddings)
