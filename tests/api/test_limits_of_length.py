"""The names of the limit of an answer's length, and values that mean no limit."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

CHAT = "/v1/chat/completions"
COMPLETIONS = "/v1/completions"
OWN: dict[str, dict[str, Any]] = {
    CHAT: {"messages": [{"role": "user", "content": "hi"}]},
    COMPLETIONS: {"prompt": "hi"},
}


async def usage(client: httpx.AsyncClient, path: str, **fields: Any) -> dict[str, int]:
    response = await client.post(path, json={"model": "fake", **OWN[path], **fields})
    assert response.status_code == 200, response.text
    counts: dict[str, int] = response.json()["usage"]
    return counts


@pytest.mark.parametrize(
    ("path", "fields"),
    [
        (CHAT, {"max_tokens": 5}),
        (CHAT, {"max_completion_tokens": 5}),
        (CHAT, {"max_tokens": 5, "max_completion_tokens": 5}),
        (CHAT, {"n_predict": 5}),
        (CHAT, {"n_predict": 5, "max_tokens": 5}),
        (COMPLETIONS, {"max_tokens": 5}),
        (COMPLETIONS, {"n_predict": 5}),
    ],
)
async def test_names(client: httpx.AsyncClient, path: str, fields: dict[str, Any]) -> None:
    assert (await usage(client, path, **fields))["completion_tokens"] == 5


@pytest.mark.parametrize("path", OWN)
@pytest.mark.parametrize("field", ["max_tokens", "n_predict"])
async def test_no_limit(client: httpx.AsyncClient, path: str, field: str) -> None:
    assert (await usage(client, path, ignore_eos=True, **{field: -1}))["total_tokens"] == 128


@pytest.mark.parametrize(
    ("path", "fields", "param"),
    [
        (CHAT, {"max_tokens": 5, "max_completion_tokens": 6}, "max_tokens"),
        (CHAT, {"max_tokens": 5, "n_predict": 6}, "n_predict"),
        (CHAT, {"max_tokens": 0}, "max_tokens"),
        (CHAT, {"max_tokens": -2}, "max_tokens"),
        (CHAT, {"n_predict": 0}, "n_predict"),
        (COMPLETIONS, {"max_tokens": 0}, "max_tokens"),
        (COMPLETIONS, {"max_tokens": -2}, "max_tokens"),
    ],
)
async def test_contradictions(
    client: httpx.AsyncClient, path: str, fields: dict[str, Any], param: str
) -> None:
    response = await client.post(path, json={"model": "fake", **OWN[path], **fields})
    assert response.status_code == 400
    assert response.json()["error"]["param"] == param


@pytest.mark.parametrize("fields", [{"do_sample": False}, {"top_p": 0}, {"temperature": 0}])
@pytest.mark.parametrize("path", OWN)
async def test_ways_to_ask_for_the_most_likely_tokens(
    client: httpx.AsyncClient, path: str, fields: dict[str, Any]
) -> None:
    context = client._transport.app.state.context  # type: ignore[attr-defined]
    submitted = []
    submit_group = context.engine.submit_group

    def submit(prompt: Any, choices: Any, *rest: Any) -> Any:
        submitted.extend(choice.params.sampling for choice in choices)
        return submit_group(prompt, choices, *rest)

    context.engine.submit_group = submit
    await usage(client, path, max_tokens=2, **{"temperature": 0.7, "do_sample": True, **fields})
    (sampling,) = submitted
    assert sampling.is_plain_greedy
