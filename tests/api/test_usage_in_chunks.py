"""`stream_options.continuous_usage_stats`: token counts in every chunk."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest

REQUESTS: dict[str, dict[str, Any]] = {
    "/v1/chat/completions": {"messages": [{"role": "user", "content": "hi"}]},
    "/v1/completions": {"prompt": "hi"},
}


async def chunks_of(client: httpx.AsyncClient, path: str, **options: bool) -> list[dict[str, Any]]:
    body = {"model": "fake", **REQUESTS[path], "max_tokens": 5, "temperature": 0, "stream": True}
    response = await client.post(path, json={**body, "stream_options": options})
    assert response.status_code == 200, response.text
    lines = response.text.split("\n\n")
    return [json.loads(line.removeprefix("data: ")) for line in lines[:-2]]


@pytest.mark.parametrize("path", REQUESTS)
async def test_every_chunk_has_the_counts_so_far(client: httpx.AsyncClient, path: str) -> None:
    chunks = await chunks_of(client, path, include_usage=True, continuous_usage_stats=True)
    counts = [chunk["usage"]["completion_tokens"] for chunk in chunks]
    assert counts == sorted(counts)
    assert counts[-1] == 5
    assert len(set(counts)) > 2
    for chunk in chunks:
        usage = chunk["usage"]
        assert usage["prompt_tokens"] > 0
        assert usage["total_tokens"] == usage["prompt_tokens"] + usage["completion_tokens"]
    assert chunks[-1]["choices"] == []


@pytest.mark.parametrize("path", REQUESTS)
async def test_without_include_usage_there_are_none(client: httpx.AsyncClient, path: str) -> None:
    for options in ({"continuous_usage_stats": True}, {"continuous_usage_stats": False}):
        chunks = await chunks_of(client, path, **options)
        assert not any(chunk.get("usage") for chunk in chunks)
    chunks = await chunks_of(client, path, include_usage=True, continuous_usage_stats=False)
    assert [bool(chunk["usage"]) for chunk in chunks] == [False] * (len(chunks) - 1) + [True]
