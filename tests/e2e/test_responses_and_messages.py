"""The SDKs of OpenAI and Anthropic, as people use them, against a real server."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import anthropic
import openai
import pytest
from pydantic import BaseModel

from support.server_process import ServerProcess

QUESTION = "Hello! Who are you?"
SCHEMA = {
    "type": "object",
    "properties": {"city": {"enum": ["Paris", "Rome"]}},
    "required": ["city"],
    "additionalProperties": False,
}


class Weather(BaseModel):
    is_sunny: bool


@pytest.fixture
def openai_sdk(glm_tiny: ServerProcess) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{glm_tiny.url}/v1", api_key="none", max_retries=0) as client:
        yield client


@pytest.fixture
def anthropic_sdk(glm_tiny: ServerProcess) -> Iterator[anthropic.Anthropic]:
    with anthropic.Anthropic(base_url=glm_tiny.url, api_key="none", max_retries=0) as client:
        yield client


class TestResponses:
    def test_all_ways_of_asking_give_one_text(self, openai_sdk: openai.OpenAI) -> None:
        whole = openai_sdk.responses.create(model="glm-tiny", input=QUESTION, temperature=0)
        assert "glm" in whole.output_text.lower()
        with openai_sdk.responses.stream(model="glm-tiny", input=QUESTION, temperature=0) as events:
            deltas = [e.delta for e in events if e.type == "response.output_text.delta"]
            final = events.get_final_response()
        chat = openai_sdk.chat.completions.create(
            model="glm-tiny", messages=[{"role": "user", "content": QUESTION}], temperature=0
        )
        texts = {whole.output_text, "".join(deltas), final.output_text}
        assert texts == {chat.choices[0].message.content}
        assert len(deltas) > 5

    def test_what_was_said_is_not_computed_again(self, openai_sdk: openai.OpenAI) -> None:
        first = openai_sdk.responses.create(model="glm-tiny", input=QUESTION, temperature=0)
        second = openai_sdk.responses.create(
            model="glm-tiny", input="写一首诗", previous_response_id=first.id, temperature=0
        )
        assert first.usage
        assert second.usage
        cached = second.usage.input_tokens_details.cached_tokens
        assert cached >= first.usage.total_tokens - 16  # all full blocks of the first turn
        chat = openai_sdk.chat.completions.create(
            model="glm-tiny",
            messages=[
                {"role": "user", "content": QUESTION},
                {"role": "assistant", "content": first.output_text},
                {"role": "user", "content": "写一首诗"},
            ],
            temperature=0,
        )
        assert second.output_text == chat.choices[0].message.content

    def test_structure(self, openai_sdk: openai.OpenAI) -> None:
        parsed = openai_sdk.responses.parse(
            model="glm-tiny", input="Is it sunny?", text_format=Weather
        )
        assert isinstance(parsed.output_parsed, Weather)

    def test_the_round_of_a_tool(self, openai_sdk: openai.OpenAI) -> None:
        tool: Any = {"type": "function", "name": "weather", "parameters": SCHEMA, "strict": True}
        asked = openai_sdk.responses.create(
            model="glm-tiny", input="Paris?", tools=[tool], tool_choice="required"
        )
        call = asked.output[0]
        assert call.type == "function_call"
        answered = openai_sdk.responses.create(
            model="glm-tiny",
            input=[{"type": "function_call_output", "call_id": call.call_id, "output": "Sunny."}],
            previous_response_id=asked.id,
            max_output_tokens=20,
        )
        assert answered.status in ("completed", "incomplete")
        openai_sdk.responses.delete(asked.id)
        with pytest.raises(openai.NotFoundError):
            openai_sdk.responses.retrieve(asked.id)


class TestMessages:
    def test_all_ways_of_asking_give_one_text(self, anthropic_sdk: anthropic.Anthropic) -> None:
        asked: dict[str, Any] = {
            "model": "glm-tiny",
            "max_tokens": 200,
            "messages": [{"role": "user", "content": QUESTION}],
            "extra_body": {"temperature": 0},
        }
        whole = anthropic_sdk.messages.create(**asked)
        assert whole.stop_reason == "end_turn"
        with anthropic_sdk.messages.stream(**asked) as events:
            text = "".join(events.text_stream)
            final = events.get_final_message()
        assert text == whole.content[0].text == final.content[0].text
        assert "glm" in text.lower()
        count = anthropic_sdk.messages.count_tokens(model="glm-tiny", messages=asked["messages"])
        usage = final.usage
        assert count.input_tokens == usage.input_tokens + (usage.cache_read_input_tokens or 0)

    def test_the_round_of_a_tool(self, anthropic_sdk: anthropic.Anthropic) -> None:
        conversation: list[Any] = [{"role": "user", "content": "Paris?"}]
        asked: dict[str, Any] = {
            "model": "glm-tiny",
            "max_tokens": 300,
            "tools": [{"name": "weather", "input_schema": SCHEMA}],
        }
        message = anthropic_sdk.messages.create(
            messages=conversation, tool_choice={"type": "tool", "name": "weather"}, **asked
        )
        assert message.stop_reason == "tool_use"
        (call,) = message.content
        assert call.type == "tool_use"
        assert call.input["city"] in ("Paris", "Rome")
        result = {"type": "tool_result", "tool_use_id": call.id, "content": "Sunny."}
        conversation += [
            {"role": "assistant", "content": message.content},
            {"role": "user", "content": [result]},
        ]
        answer = anthropic_sdk.messages.create(messages=conversation, **asked)
        assert answer.stop_reason in ("end_turn", "max_tokens", "tool_use")

    def test_errors_are_the_sdks(self, anthropic_sdk: anthropic.Anthropic) -> None:
        with pytest.raises(anthropic.NotFoundError) as caught:
            anthropic_sdk.messages.create(
                model="claude", max_tokens=9, messages=[{"role": "user", "content": "x"}]
            )
        assert "glm-tiny" in str(caught.value)


def test_an_anthropic_key_opens_the_server() -> None:
    with ServerProcess("--device", "null", "--api-key", "open-sesame") as server:
        for key, is_valid in (("open-sesame", True), ("simsim", False)):
            with anthropic.Anthropic(base_url=server.url, api_key=key, max_retries=0) as client:
                count = client.messages.count_tokens
                asked: Any = {"model": "glm-tiny", "messages": [{"role": "user", "content": "x"}]}
                if is_valid:
                    assert count(**asked).input_tokens
                else:
                    with pytest.raises(anthropic.AuthenticationError):
                        count(**asked)
