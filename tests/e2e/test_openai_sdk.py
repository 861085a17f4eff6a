"""Everything that OpenAI's own Python SDK can ask of a server like this one."""

from __future__ import annotations

import base64
import json
import struct
from collections.abc import Iterator
from typing import Any, Literal

import openai
import pytest
from openai import pydantic_function_tool
from openai.types.chat import ChatCompletionMessageParam
from pydantic import BaseModel, Field

from support.server_process import ServerProcess

MODEL = "glm-tiny"
QUESTION: list[ChatCompletionMessageParam] = [{"role": "user", "content": "Is it cold outside?"}]


class Weather(BaseModel):
    """The weather of a place."""

    sky: Literal["clear", "grey"]
    degrees: int = Field(ge=-20, le=40)


class LookUp(BaseModel):
    """Look up the weather."""

    place: Literal["here", "there"]
    days: int = Field(ge=1, le=9)


TOOLS = [pydantic_function_tool(LookUp, name="look_up")]


@pytest.fixture
def sdk(glm_tiny: ServerProcess) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{glm_tiny.url}/v1", api_key="none", max_retries=0) as client:
        yield client


def test_parse_gives_an_object_of_the_model(sdk: openai.OpenAI) -> None:
    answer = sdk.chat.completions.parse(
        model=MODEL, messages=QUESTION, response_format=Weather, n=2, seed=1
    )
    for choice in answer.choices:
        assert choice.finish_reason == "stop"
        assert isinstance(choice.message.parsed, Weather)


def test_parse_gives_the_arguments_of_a_call(sdk: openai.OpenAI) -> None:
    answer = sdk.chat.completions.parse(
        model=MODEL, messages=QUESTION, tools=TOOLS, tool_choice="required", seed=1
    )
    choice = answer.choices[0]
    assert choice.finish_reason == "tool_calls"
    assert choice.message.content is None
    (call, *_) = choice.message.tool_calls or ()
    assert isinstance(call.function.parsed_arguments, LookUp)


def test_a_cut_answer_cannot_be_parsed(sdk: openai.OpenAI) -> None:
    with pytest.raises(openai.LengthFinishReasonError) as caught:
        sdk.chat.completions.parse(
            model=MODEL, messages=QUESTION, response_format=Weather, max_completion_tokens=2
        )
    assert caught.value.completion.usage is not None
    assert caught.value.completion.usage.completion_tokens == 2


def test_the_stream_helper_tells_every_event(sdk: openai.OpenAI) -> None:
    with sdk.chat.completions.stream(
        model=MODEL,
        messages=QUESTION,
        response_format=Weather,
        logprobs=True,
        top_logprobs=2,
        seed=1,
        stream_options={"include_usage": True},
    ) as stream:
        events = list(stream)
        final = stream.get_final_completion()
    kinds = {event.type for event in events}
    assert {"chunk", "content.delta", "content.done", "logprobs.content.delta"} <= kinds
    text = "".join(event.delta for event in events if event.type == "content.delta")
    message = final.choices[0].message
    assert text == message.content
    assert message.parsed == Weather.model_validate_json(text)
    assert final.usage is not None
    assert final.usage.completion_tokens >= 5


def test_the_stream_helper_puts_calls_together(sdk: openai.OpenAI) -> None:
    with sdk.chat.completions.stream(
        model=MODEL, messages=QUESTION, tools=TOOLS, tool_choice="required", seed=1
    ) as stream:
        events = list(stream)
        final = stream.get_final_completion()
    deltas = [e for e in events if e.type == "tool_calls.function.arguments.delta"]
    (call, *others) = final.choices[0].message.tool_calls or ()
    assert final.choices[0].finish_reason == "tool_calls"
    assert isinstance(call.function.parsed_arguments, LookUp)
    pieces = [e.arguments_delta for e in deltas if e.index == 0]
    assert "".join(pieces) == call.function.arguments
    assert len({call.id, *(other.id for other in others)}) == 1 + len(others)


def test_a_call_and_its_result_make_a_round(sdk: openai.OpenAI) -> None:
    """The SDK's own dumps of a message are full of nulls, and parse() adds what it has parsed."""
    asked: Any = {"messages": QUESTION, "tools": TOOLS, "tool_choice": "required", "seed": 1}
    first = sdk.chat.completions.create(model=MODEL, **asked)
    parsed = sdk.chat.completions.parse(model=MODEL, **asked).choices[0].message
    with_content = {**parsed.model_dump(), "parsed": {"the": "content"}}
    plain = first.choices[0].message
    for message in (plain, plain.model_dump(), plain.to_dict(), parsed, with_content):
        calls = message["tool_calls"] if isinstance(message, dict) else message.tool_calls
        ids = [call["id"] if isinstance(call, dict) else call.id for call in calls]
        results = [{"role": "tool", "tool_call_id": each, "content": "3 degrees"} for each in ids]
        assert results
        messages: Any = [*QUESTION, message, *results]
        second = sdk.chat.completions.create(
            model=MODEL, messages=messages, tools=TOOLS, max_tokens=20, temperature=0
        )
        assert first.usage is not None
        assert second.usage is not None
        assert second.usage.prompt_tokens > first.usage.prompt_tokens


@pytest.mark.parametrize(
    "choice",
    [
        "required",
        {"type": "function", "function": {"name": "look_up"}},
        {
            "type": "allowed_tools",
            "allowed_tools": {
                "mode": "required",
                "tools": [{"type": "function", "function": {"name": "look_up"}}],
            },
        },
    ],
    ids=["required", "named", "allowed"],
)
def test_every_way_to_require_a_call(sdk: openai.OpenAI, choice: Any) -> None:
    answer = sdk.chat.completions.create(
        model=MODEL,
        messages=QUESTION,
        tools=TOOLS,
        tool_choice=choice,
        parallel_tool_calls=False,
        n=2,
        seed=3,
    )
    for each in answer.choices:
        assert each.finish_reason == "tool_calls"
        (call,) = each.message.tool_calls or ()
        assert call.type == "function"
        LookUp.model_validate_json(call.function.arguments)


def test_raw_responses_carry_their_headers(sdk: openai.OpenAI) -> None:
    raw = sdk.chat.completions.with_raw_response.create(
        model=MODEL,
        messages=QUESTION,
        max_tokens=3,
        extra_headers={"X-Request-Id": "mine-1"},
    )
    assert raw.headers["x-request-id"] == raw.request_id == "mine-1"
    assert raw.parse().choices
    with sdk.chat.completions.with_streaming_response.create(
        model=MODEL, messages=QUESTION, max_tokens=3, stream=True
    ) as response:
        assert response.headers["content-type"].startswith("text/event-stream")
        assert [line for line in response.iter_lines() if line][-1] == "data: [DONE]"


def test_fields_beyond_openais_go_into_the_body(sdk: openai.OpenAI) -> None:
    answer = sdk.chat.completions.create(
        model=MODEL,
        messages=QUESTION,
        max_tokens=5,
        temperature=0,
        extra_body={"ignore_eos": True, "top_k": 1, "return_token_ids": True},
    )
    extra = answer.choices[0].model_extra
    assert extra is not None
    assert len(extra["token_ids"]) == 5


def test_embeddings_are_the_same_in_both_encodings(sdk: openai.OpenAI) -> None:
    """The SDK asks for base64 unless told otherwise, and decodes it."""
    texts = ["It is cold.", "冷"]
    decoded = sdk.embeddings.create(model=MODEL, input=texts)
    numbers = sdk.embeddings.create(model=MODEL, input=texts, encoding_format="float")
    for one, other in zip(decoded.data, numbers.data, strict=True):
        assert one.embedding == pytest.approx(other.embedding, abs=1e-6)
    raw = sdk.embeddings.with_raw_response.create(
        model=MODEL, input=texts, encoding_format="base64"
    )
    data = base64.b64decode(json.loads(raw.text)["data"][0]["embedding"])
    assert list(struct.unpack(f"<{len(data) // 4}f", data)) == decoded.data[0].embedding


def test_a_time_that_is_too_short_frees_the_blocks(
    sdk: openai.OpenAI, glm_tiny: ServerProcess
) -> None:
    with pytest.raises(openai.APITimeoutError):
        sdk.with_options(timeout=0.05).completions.create(
            model=MODEL, prompt="x", max_tokens=1900, extra_body={"ignore_eos": True}
        )
    glm_tiny.wait_until_idle()


async def test_a_stream_that_is_closed_frees_its_blocks(glm_tiny: ServerProcess) -> None:
    base_url = f"{glm_tiny.url}/v1"
    async with openai.AsyncOpenAI(base_url=base_url, api_key="none") as client:
        async with await client.chat.completions.create(
            model=MODEL,
            messages=QUESTION,
            stream=True,
            n=3,
            max_tokens=1900,
            extra_body={"ignore_eos": True},
        ) as stream:
            async for chunk in stream:
                if chunk.choices[0].delta.content:
                    break
            assert glm_tiny.metric("glmserve_requests_running") == 3
        glm_tiny.wait_until_idle()
        async with client.chat.completions.stream(
            model=MODEL, messages=QUESTION, max_tokens=5
        ) as events:
            assert [event.type async for event in events][-1] == "content.done"


def test_completions_in_every_shape(sdk: openai.OpenAI) -> None:
    whole = sdk.completions.create(
        model=MODEL, prompt=["a", "b"], n=2, best_of=3, logprobs=2, echo=True, max_tokens=4, seed=5
    )
    assert [choice.index for choice in whole.choices] == [0, 1, 2, 3]
    assert [choice.text[0] for choice in whole.choices] == ["a", "a", "b", "b"]
    stream = sdk.completions.create(
        model=MODEL,
        prompt="a",
        stream=True,
        stream_options={"include_usage": True},
        max_tokens=4,
        temperature=0,
    )
    chunks = list(stream)
    alone = sdk.completions.create(model=MODEL, prompt="a", max_tokens=4, temperature=0)
    assert "".join(c.choices[0].text for c in chunks if c.choices) == alone.choices[0].text
    assert chunks[-1].usage is not None
    assert chunks[-1].usage.completion_tokens == 4


@pytest.mark.parametrize(
    ("fields", "error", "param"),
    [
        ({"model": "gpt"}, openai.NotFoundError, "model"),
        ({"messages": []}, openai.BadRequestError, "messages"),
        ({"tool_choice": "required"}, openai.BadRequestError, "tool_choice"),
        ({"extra_body": {"unheard_of": 1}}, openai.BadRequestError, "unheard_of"),
        ({"max_tokens": 10**6}, openai.BadRequestError, "max_tokens"),
    ],
)
def test_errors_come_as_their_own_classes(
    sdk: openai.OpenAI, fields: dict[str, Any], error: type[openai.APIStatusError], param: str
) -> None:
    with pytest.raises(error) as caught:
        sdk.chat.completions.create(**{"model": MODEL, "messages": QUESTION, **fields})
    assert caught.value.param == param
