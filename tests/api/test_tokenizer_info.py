"""GET /tokenizer_info"""

from __future__ import annotations

from typing import Any

import httpx


async def test_what_there_is(client: httpx.AsyncClient) -> None:
    assert (await client.get("/tokenizer_info")).json() == {
        "tokenizer_class": "ByteTokenizer",
        "vocab_size": 257,
        "model_max_length": 128,
        "eos_token": "<eos>",
        "bos_token": None,
        "pad_token": None,
        "chat_template": None,
    }


async def test_without_a_tokenizer(make_client: Any) -> None:
    client = await make_client(with_tokenizer=False)
    response = await client.get("/tokenizer_info")
    assert response.status_code == 400
    assert "--skip-tokenizer-init" in response.json()["error"]["message"]


async def test_before_the_model_is_loaded(make_client: Any) -> None:
    client = await make_client(start=False)
    assert (await client.get("/tokenizer_info")).status_code == 503
