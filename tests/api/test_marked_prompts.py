"""A model whose prompts must have marks: what is answered when they are missing."""

from __future__ import annotations

from typing import Any

import httpx
import msgspec
import pytest

from glmserve.contract.prompt_layout import PromptMarks
from support.fakes import LIMITS, FakeRunner, expected_output

MARKS = PromptMarks(gmask_id=201, mask_id=200, sop_id=204)
PROMPT = [7, 8, 201, 204]


@pytest.fixture
async def marked(make_client: Any) -> httpx.AsyncClient:
    limits = msgspec.structs.replace(
        LIMITS,
        max_step_tokens=128,
        prompt_marks=MARKS,
        chunked_prefill=False,
        prefix_cache=False,
    )
    return await make_client(runner=FakeRunner(limits))  # type: ignore[no-any-return]


def completion(**fields: Any) -> dict[str, Any]:
    return {"model": "fake", "prompt": PROMPT, "temperature": 0, "max_tokens": 5, **fields}


async def test_every_choice(marked: httpx.AsyncClient) -> None:
    """FakeRunner checks that each is computed whole, with its layout."""
    body = completion(n=3, return_token_ids=True)
    choices = (await marked.post("/v1/completions", json=body)).json()["choices"]
    assert [c["token_ids"] for c in choices] == [expected_output(PROMPT, 5)] * 3


async def test_a_text_that_is_begun(marked: httpx.AsyncClient) -> None:
    """Tokens behind <sop>, as a message that is continued has them."""
    begun = [*PROMPT, *expected_output(PROMPT, 2)]
    body = completion(prompt=begun, return_token_ids=True, max_tokens=3)
    (choice,) = (await marked.post("/v1/completions", json=body)).json()["choices"]
    assert choice["token_ids"] == expected_output(PROMPT, 5)[2:]


@pytest.mark.parametrize(
    ("route", "body", "param"),
    [
        ("completions", completion(prompt=[7, 8]), "prompt"),
        ("completions", completion(prompt=[PROMPT, [7, 201]]), "prompt"),
        ("completions", completion(prompt="text of a tokenizer without marks"), "prompt"),
        ("completions", completion(echo=True, logprobs=1), "logprobs"),
        ("completions", completion(prompt_logprobs=1), "prompt_logprobs"),
        ("embeddings", {"model": "fake", "input": [7, 8]}, "input"),
        (
            "chat/completions",
            {"model": "fake", "messages": [{"role": "user", "content": "hi"}]},
            "messages",
        ),
    ],
)
async def test_refusals(
    marked: httpx.AsyncClient, route: str, body: dict[str, Any], param: str
) -> None:
    response = await marked.post(f"/v1/{route}", json=body)
    assert response.status_code == 400
    assert response.json()["error"]["param"] == param


async def test_echo_alone(marked: httpx.AsyncClient) -> None:
    response = await marked.post("/v1/completions", json=completion(echo=True))
    assert response.status_code == 200
