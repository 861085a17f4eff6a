"""LangChain's ChatOpenAI and OpenAIEmbeddings."""

from __future__ import annotations

from typing import Any, Literal

import pytest
from pydantic import BaseModel, Field

from support.server_process import ServerProcess

pytestmark = pytest.mark.clients
langchain_openai = pytest.importorskip("langchain_openai", reason="the clients extra is missing")

QUESTION = "Is it cold outside?"


class Weather(BaseModel):
    """The weather of a place."""

    sky: Literal["clear", "grey"]
    degrees: int = Field(ge=-20, le=40)


def look_up(place: Literal["here", "there"]) -> str:
    """Look up the weather of a place."""
    return f"It is cold {place}."


@pytest.fixture
def model(server: ServerProcess) -> Any:
    return langchain_openai.ChatOpenAI(
        base_url=f"{server.url}/v1",
        api_key="none",
        model="glm-tiny",
        temperature=0,
        max_retries=0,
        seed=1,
    )


def test_invoke_and_stream_say_the_same(model: Any) -> None:
    whole = model.invoke(QUESTION)
    assert whole.usage_metadata["output_tokens"] > 0
    assert whole.response_metadata["finish_reason"] == "stop"
    chunks = list(model.stream(QUESTION, stream_usage=True))
    together = chunks[0]
    for chunk in chunks[1:]:
        together += chunk
    assert together.content == whole.content
    assert together.usage_metadata["output_tokens"] == whole.usage_metadata["output_tokens"]


async def test_batch(model: Any) -> None:
    questions = [QUESTION, "你好", "What is glmserve?"]
    answers = model.batch(questions)
    assert [a.content for a in answers] == [a.content for a in await model.abatch(questions)]


def test_logprobs(model: Any) -> None:
    scored = model.bind(logprobs=True, top_logprobs=2).invoke(QUESTION)
    entries = scored.response_metadata["logprobs"]["content"]
    assert "".join(entry["token"] for entry in entries) == scored.content


@pytest.mark.parametrize("method", ["json_schema", "function_calling"])
def test_structured_output(model: Any, method: str) -> None:
    asking = model.with_structured_output(Weather, method=method, include_raw=True)
    answer = asking.invoke(QUESTION)
    assert answer["parsing_error"] is None
    assert isinstance(answer["parsed"], Weather)


@pytest.mark.filterwarnings("ignore:Pydantic serializer warnings")  # LangChain's own doing
def test_structured_output_is_streamed(model: Any) -> None:
    asking = model.with_structured_output(Weather, method="json_schema")
    assert isinstance(list(asking.stream(QUESTION))[-1], Weather)


def test_json_mode(model: Any) -> None:
    """With a schema, because the tiny model would write an object without end."""
    closed = Weather.model_json_schema() | {"additionalProperties": False}
    form = {"type": "json_object", "schema": closed}
    answer = model.bind(response_format=form).invoke("Answer in JSON.")
    Weather.model_validate_json(answer.content)


@pytest.mark.parametrize("choice", ["any", "look_up"])
def test_a_round_of_tools(model: Any, choice: str) -> None:
    from langchain_core.messages import HumanMessage, ToolMessage

    asking = model.bind_tools([look_up], tool_choice=choice, parallel_tool_calls=False)
    called = asking.invoke([HumanMessage(QUESTION)])
    (call,) = called.tool_calls
    assert call["name"] == "look_up"
    assert not called.invalid_tool_calls
    streamed = list(asking.stream([HumanMessage(QUESTION)]))
    together = streamed[0]
    for chunk in streamed[1:]:
        together += chunk
    assert [c["args"] for c in together.tool_calls] == [call["args"]]
    result = ToolMessage(look_up(**call["args"]), tool_call_id=call["id"])
    answer = model.bind_tools([look_up]).invoke([HumanMessage(QUESTION), called, result])
    assert answer.usage_metadata["input_tokens"] > called.usage_metadata["input_tokens"]


def test_embeddings(server: ServerProcess) -> None:
    """LangChain would send the ids of another model's tokenizer unless told not to."""
    embed = langchain_openai.OpenAIEmbeddings(
        base_url=f"{server.url}/v1",
        api_key="none",
        model="glm-tiny",
        check_embedding_ctx_length=False,
    )
    first, again, other = embed.embed_documents(["It is cold.", "It is cold.", "你好"])
    assert first == pytest.approx(again, abs=1e-5)
    assert len(first) == len(other)
    assert embed.embed_query("It is cold.") == pytest.approx(first, abs=1e-5)
