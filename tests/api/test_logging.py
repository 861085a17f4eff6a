"""What is logged with --debug."""

from __future__ import annotations

import logging

import httpx
import pytest

PROMPT = "Rumpelstilzchen"


@pytest.mark.parametrize("is_stream", [False, True])
async def test_no_text_is_logged(
    client: httpx.AsyncClient, caplog: pytest.LogCaptureFixture, is_stream: bool
) -> None:
    body = {"prompt": PROMPT, "echo": True, "max_tokens": 3, "stream": is_stream}
    with caplog.at_level(logging.DEBUG):
        answer = await client.post("/v1/completions", json=body)
    assert PROMPT in answer.text
    assert PROMPT not in caplog.text
