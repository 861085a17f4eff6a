"""A conversation is one prompt and an answer is one answer, by whichever API they come."""

from __future__ import annotations

import json
from typing import Any

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from glmserve.api.answering.conversation import chat_messages
from glmserve.api.anthropic.content import Content
from glmserve.api.anthropic.conversation import chat_request as of_messages
from glmserve.api.anthropic.protocol import MessagesRequest
from glmserve.api.journaling.identity import Identity
from glmserve.api.openai.responses.conversation import chat_request as of_responses
from glmserve.api.openai.responses.conversation import input_items
from glmserve.api.openai.responses.output import Output
from glmserve.api.openai.responses.protocol import ResponsesRequest
from glmserve.api.openai.responses.tools import Functions
from glmserve.api.protocol import ChatCompletionRequest, parse_data
from glmserve.text.tools import ArgumentsDelta, CallStarted, ContentDelta, ToolEvent

texts = st.text(min_size=1, max_size=5)
names = st.sampled_from(("f", "g"))
arguments = st.dictionaries(st.sampled_from("abc"), st.integers() | texts, max_size=2)
calls = st.lists(st.tuples(names, arguments, texts), min_size=1, max_size=3)
"""Name, arguments and result of each."""
rounds = st.lists(st.tuples(texts, st.one_of(texts, st.tuples(texts, calls))), max_size=4)
"""What the user asks, and what is said: a text, or a text with calls."""


@given(rounds, texts)
def test_three_ways_to_write_a_conversation(past: list[Any], question: str) -> None:
    chat: list[Any] = []
    items: list[Any] = []
    messages: list[Any] = []
    results: list[Any] = []
    for asked, said in past:
        text, made = (said, []) if isinstance(said, str) else said
        user = {"role": "user", "content": asked}
        chat.append(user)
        items.append(user)
        messages.append({"role": "user", "content": [*results, {"type": "text", "text": asked}]})
        numbered = [(f"{len(chat)}-{i}", *call) for i, call in enumerate(made)]
        chat.append({"role": "assistant", "content": text, "tool_calls": _calls(numbered)})
        items.append({"role": "assistant", "content": text})
        uses = [{"type": "tool_use", "id": i, "name": n, "input": a} for i, n, a, _ in numbered]
        content = [{"type": "text", "text": text}, *uses]
        messages.append({"role": "assistant", "content": content})
        results = []
        for call_id, name, given_arguments, _ in numbered:
            call = {"call_id": call_id, "name": name, "arguments": _json(given_arguments)}
            items.append({"type": "function_call", **call})
        for call_id, _, _, result in numbered:
            chat.append({"role": "tool", "tool_call_id": call_id, "content": result})
            items.append({"type": "function_call_output", "call_id": call_id, "output": result})
            results.append({"type": "tool_result", "tool_use_id": call_id, "content": result})
    last = {"role": "user", "content": question}
    messages.append({"role": "user", "content": [*results, {"type": "text", "text": question}]})
    expected = parse_data(ChatCompletionRequest, {"model": "m", "messages": [*chat, last]})
    responses = parse_data(ResponsesRequest, {"model": "m", "input": [*items, last]})
    anthropic = parse_data(MessagesRequest, {"model": "m", "max_tokens": 1, "messages": messages})
    items_with_ids = input_items(responses, Identity(), lambda _: None)
    for request in (of_responses(responses, Functions([]), items_with_ids), of_messages(anthropic)):
        assert chat_messages(request.messages) == chat_messages(expected.messages)


answers = st.lists(st.tuples(st.none() | names, st.lists(texts, max_size=4)), max_size=5)
"""Parts of an answer: text, or the name of a tool, with the pieces in which it comes."""


def events_of(answer: list[tuple[str | None, list[str]]]) -> list[ToolEvent]:
    events: list[ToolEvent] = []
    number = -1
    for name, pieces in answer:
        if name is None:
            events += [ContentDelta(piece) for piece in pieces]
        else:
            number += 1
            events.append(CallStarted(number, name))
            events += [ArgumentsDelta(number, piece) for piece in pieces]
    return events


def parts_of(answer: list[tuple[str | None, list[str]]]) -> list[tuple[str | None, str]]:
    """The items: texts that follow each other are one."""
    parts: list[tuple[str | None, str]] = []
    for name, pieces in answer:
        text = "".join(pieces)
        if name is None and parts and parts[-1][0] is None:
            parts[-1] = (None, parts[-1][1] + text)
        elif name is not None or text:
            parts.append((name, text))
    return parts


@given(answers)
def test_events_of_a_response_tell_its_items(answer: list[tuple[str | None, list[str]]]) -> None:
    output = Output(Identity(), Functions([]), None)
    told = [event for piece in events_of(answer) for event in output.push([piece], [])]
    told += output.finish("completed")
    items = msgspec.to_builtins(output.items)
    found = [
        (item.get("name"), item["arguments"] if "name" in item else item["content"][0]["text"])
        for item in items
    ]
    assert found == (parts_of(answer) or [(None, "")])
    events = msgspec.to_builtins(told)
    added = [e for e in events if e["type"] == "response.output_item.added"]
    done = [e for e in events if e["type"] == "response.output_item.done"]
    assert [e["output_index"] for e in added] == [*range(len(items))]
    assert [e["item"] for e in done] == items
    for index, (_, text) in enumerate(found):
        own = [e for e in events if e["output_index"] == index]
        assert (own[0], own[-1]) == (added[index], done[index])
        assert "".join(e.get("delta", "") for e in own) == text


@given(answers)
def test_events_of_a_message_tell_its_blocks(answer: list[tuple[str | None, list[str]]]) -> None:
    content = Content(Identity())
    told = [event for piece in events_of(answer) for event in content.push([piece])]
    told += content.finish()
    events = msgspec.to_builtins(told)
    assert len(content.blocks) == len(parts_of(answer))
    for index, (name, text) in enumerate(parts_of(answer)):
        own = [event for event in events if event["index"] == index]
        kinds = [event["type"].removeprefix("content_block_") for event in own]
        assert kinds == ["start", *["delta"] * (len(own) - 2), "stop"]
        pieces = [d.get("text") or d["partial_json"] for d in (e["delta"] for e in own[1:-1])]
        assert "".join(pieces) == text
        block = msgspec.to_builtins(content.blocks[index])
        if name is None:
            assert block == {"type": "text", "text": text}
        else:
            assert block["name"] == own[0]["content_block"]["name"] == name


def _json(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False)


def _calls(numbered: list[Any]) -> list[Any]:
    return [
        {"id": call_id, "function": {"name": name, "arguments": _json(given_arguments)}}
        for call_id, name, given_arguments, _ in numbered
    ]
