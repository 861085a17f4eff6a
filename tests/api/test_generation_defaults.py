"""Defaults from a checkpoint's generation_config.json, in requests that do not set these fields."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import httpx
import pytest

from glmserve.api.answering.context import ServerContext
from glmserve.contract.sampling import Sampling
from glmserve.model_config import GenerationDefaults
from support.fake_server import client_of, serve
from support.fakes import LIMITS, FakeRunner

DEFAULTS = GenerationDefaults(
    {"temperature": 0.25, "top_p": 0.5, "top_k": 7, "min_p": 0.125, "repetition_penalty": 1.5},
    max_new_tokens=3,
)
MESSAGES = [{"role": "user", "content": "hi"}]
REQUESTS: dict[str, dict[str, Any]] = {
    "/v1/chat/completions": {"messages": MESSAGES},
    "/v1/completions": {"prompt": "hi"},
    "/v1/responses": {"input": "hi"},
    "/v1/messages": {"messages": MESSAGES, "max_tokens": 9},
}


@pytest.fixture
async def served() -> AsyncIterator[tuple[httpx.AsyncClient, FakeRunner, ServerContext]]:
    runner = FakeRunner()
    async with serve(runner) as app, client_of(app) as client:
        context: ServerContext = app.state.context
        context.generation_defaults = DEFAULTS
        yield client, runner, context


Served = tuple[httpx.AsyncClient, FakeRunner, ServerContext]


async def _ask(served: Served, path: str, **fields: Any) -> tuple[dict[str, Any], Sampling]:
    client, runner, _ = served
    response = await client.post(path, json={"model": "fake", **REQUESTS[path], **fields})
    assert response.status_code == 200, response.text
    sampling = runner.steps[-1].sequences[-1].sampling
    assert sampling is not None
    return response.json(), sampling.sampling


def _num_tokens(answer: dict[str, Any]) -> int:
    usage = answer["usage"]
    return int(usage.get("completion_tokens", usage.get("output_tokens")))


@pytest.mark.parametrize("path", REQUESTS)
async def test_they_apply_to_fields_that_are_not_set(served: Served, path: str) -> None:
    _, sampling = await _ask(served, path)
    found = {name: getattr(sampling, name) for name in DEFAULTS.sampling}
    assert found == DEFAULTS.sampling


@pytest.mark.parametrize("path", REQUESTS)
async def test_explicit_values_win(served: Served, path: str) -> None:
    _, sampling = await _ask(served, path, temperature=1.0, top_p=1.0)
    assert (sampling.temperature, sampling.top_p, sampling.top_k) == (1.0, 1.0, 7)


async def test_null_is_not_set(served: Served) -> None:
    _, sampling = await _ask(served, "/v1/chat/completions", temperature=None)
    assert sampling.temperature == 0.25


@pytest.mark.parametrize(
    ("path", "fields", "expected"),
    [
        ("/v1/chat/completions", {}, 3),
        ("/v1/chat/completions", {"max_tokens": 5}, 5),
        ("/v1/chat/completions", {"max_completion_tokens": 5}, 5),
        ("/v1/responses", {}, 3),
        ("/v1/responses", {"max_output_tokens": 5}, 5),
        ("/v1/messages", {}, 9),
        ("/v1/completions", {}, 16),
    ],
)
async def test_the_longest_answer(
    served: Served, path: str, fields: dict[str, Any], expected: int
) -> None:
    """Where an API has a default of its own, or needs a value, that is used."""
    answer, _ = await _ask(served, path, **fields)
    assert _num_tokens(answer) == expected


async def test_a_response_shows_them(served: Served) -> None:
    answer, _ = await _ask(served, "/v1/responses")
    assert (answer["temperature"], answer["top_p"]) == (0.25, 0.5)


async def test_a_default_length_beyond_the_context_is_what_fits(served: Served) -> None:
    served[2].generation_defaults = replace(DEFAULTS, max_new_tokens=10**6)
    answer, _ = await _ask(served, "/v1/chat/completions")
    assert answer["usage"]["total_tokens"] == LIMITS.max_context


@pytest.mark.parametrize("path", REQUESTS)
async def test_do_sample_false_is_greedy(served: Served, path: str) -> None:
    served[2].generation_defaults = replace(DEFAULTS, greedy=True)
    _, sampling = await _ask(served, path)
    assert sampling.is_greedy
    _, sampling = await _ask(served, path, temperature=0.75)
    assert sampling.temperature == 0.75


async def test_every_end_token_ends_an_answer(served: Served) -> None:
    whole, _ = await _ask(served, "/v1/completions", return_token_ids=True)
    ids = whole["choices"][0]["token_ids"]
    served[2].model = replace(served[2].model, eos_token_ids=(2, ids[4]))
    answer, _ = await _ask(served, "/v1/completions")
    assert answer["choices"][0]["finish_reason"] == "stop"
    assert _num_tokens(answer) == ids.index(ids[4]) + 1


async def test_an_end_token_does_not_end_a_structure_early() -> None:
    """An end token that is text, too, is not allowed where the structure goes on."""
    async with serve() as app, client_of(app) as client:
        app.state.context.model = replace(app.state.context.model, eos_token_ids=(2, ord("a")))
        answer = await client.post(
            "/v1/completions",
            json={"model": "fake", "prompt": "hi", "guided_regex": "[ab]{3}c", "max_tokens": 9},
        )
    assert answer.json()["choices"][0]["text"] == "bbbc"


async def test_a_request_may_ask_to_sample(served: Served) -> None:
    served[2].generation_defaults = replace(DEFAULTS, greedy=True)
    _, sampling = await _ask(served, "/v1/chat/completions", do_sample=True)
    assert sampling.temperature == 0.25


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/completions"])
async def test_a_rendered_prompt_names_them(served: Served, path: str) -> None:
    body = {"model": "fake", **REQUESTS[path]}
    response = await served[0].post(f"{path}/render", json=body)
    assert response.status_code == 200, response.text
    rendered = response.json()
    params = (rendered[0] if isinstance(rendered, list) else rendered)["sampling_params"]
    assert (params["temperature"], params["top_k"]) == (0.25, 7)
