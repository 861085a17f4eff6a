"""`allowed_token_ids`: every token of an answer is one of these."""

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
END = 256


async def ask(client: httpx.AsyncClient, path: str, **fields: Any) -> Any:
    body = {"model": "fake", "max_tokens": 8, "temperature": 0, "return_token_ids": True}
    return await client.post(path, json={**body, **OWN[path], **fields})


@pytest.mark.parametrize("path", OWN)
@pytest.mark.parametrize("allowed", [[97], [97, 98, 99], [120, 121]])
async def test_only_these(client: httpx.AsyncClient, path: str, allowed: list[int]) -> None:
    response = await ask(client, path, allowed_token_ids=allowed, n=2, temperature=1)
    assert response.status_code == 200, response.text
    for choice in response.json()["choices"]:
        assert set(choice["token_ids"]) <= set(allowed)
        assert len(choice["token_ids"]) == 8
        assert choice["finish_reason"] == "length"


async def test_an_end_token_may_be_among_them(client: httpx.AsyncClient) -> None:
    response = await ask(client, COMPLETIONS, allowed_token_ids=[END])
    (choice,) = response.json()["choices"]
    assert (choice["text"], choice["finish_reason"]) == ("", "stop")


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"allowed_token_ids": []}, "allowed_token_ids"),
        ({"allowed_token_ids": [257]}, "allowed_token_ids"),
        ({"allowed_token_ids": [-1]}, "allowed_token_ids.0"),
        ({"allowed_token_ids": [97], "guided_choice": ["a"]}, "allowed_token_ids"),
    ],
)
async def test_what_is_wrong_is_named(
    client: httpx.AsyncClient, fields: dict[str, Any], param: str
) -> None:
    for path in OWN:
        response = await ask(client, path, **fields)
        assert response.status_code == 400
        assert response.json()["error"]["param"] == param
