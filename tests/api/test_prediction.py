"""OpenAI's `prediction`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import httpx
import msgspec
import pytest

from glmserve.config import SchedulerConfig
from support.fakes import LIMITS, FakeRunner

BODY: dict[str, Any] = {
    "model": "fake",
    "messages": [{"role": "user", "content": "abc"}],
    "max_tokens": 24,
    "temperature": 0,
}


@pytest.fixture
async def speculating(make_client: Callable[..., Any]) -> httpx.AsyncClient:
    """The client of a server that drafts."""
    runner = FakeRunner(msgspec.structs.replace(LIMITS, max_drafts=16, max_context=256))
    scheduler = SchedulerConfig(speculative_tokens=4)
    return await make_client(runner=runner, scheduler=scheduler)  # type: ignore[no-any-return]


async def ask(client: httpx.AsyncClient, **fields: object) -> tuple[str, dict[str, Any]]:
    """The answer's text and the usage."""
    response = await client.post("/v1/chat/completions", json=BODY | fields)
    assert response.status_code == 200, response.text
    body = response.json()
    return body["choices"][0]["message"]["content"], body["usage"]


@pytest.mark.parametrize("in_parts", [False, True])
async def test_the_answer_is_the_same_and_the_usage_tells(
    speculating: httpx.AsyncClient, *, in_parts: bool
) -> None:
    text, usage = await ask(speculating)
    assert "completion_tokens_details" not in usage
    content: Any = text[:10] + "!" + text[10:]
    if in_parts:
        content = [{"type": "text", "text": part} for part in (content[:5], content[5:])]
    predicted = {"type": "content", "content": content}
    again, details = await ask(speculating, prediction=predicted)
    assert again == text
    assert details["completion_tokens"] == usage["completion_tokens"]
    counts = details["completion_tokens_details"]
    assert counts["accepted_prediction_tokens"] > 8
    assert counts["rejected_prediction_tokens"] > 0


@pytest.mark.parametrize(
    "fields",
    [
        {"presence_penalty": 1},
        {"repetition_penalty": 1.1},
        {"guided_choice": ["yes", "no"]},
    ],
)
async def test_a_prediction_without_use_changes_nothing(
    speculating: httpx.AsyncClient, fields: dict[str, Any]
) -> None:
    text, _ = await ask(speculating, **fields)
    predicted = {"type": "content", "content": text}
    again, usage = await ask(speculating, prediction=predicted, **fields)
    assert again == text
    assert "completion_tokens_details" not in usage


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"prediction": {"type": "text", "content": "x"}}, "prediction.type"),
        ({"prediction": {"type": "content"}}, "prediction.content"),
    ],
)
async def test_what_is_no_prediction_is_refused(
    speculating: httpx.AsyncClient, fields: dict[str, Any], said: str
) -> None:
    predicted = {"prediction": {"type": "content", "content": "x"}}
    response = await speculating.post("/v1/chat/completions", json=BODY | predicted | fields)
    assert response.status_code == 400
    error = response.json()["error"]
    assert error["param"].startswith("prediction")
    assert said in error["message"]


async def test_without_speculation_a_prediction_changes_nothing(client: httpx.AsyncClient) -> None:
    text, _ = await ask(client)
    again, usage = await ask(client, prediction={"type": "content", "content": text})
    assert again == text
    assert "completion_tokens_details" not in usage
