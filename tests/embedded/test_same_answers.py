"""An LLM answers with the bits of a server over HTTP, however the requests are batched."""

from __future__ import annotations

import asyncio
import random
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import msgspec

from glmserve import LLM
from glmserve.api.app import create_app
from glmserve.embedded.options import read_options
from glmserve.embedded.results import ChatCompletion, Completion
from glmserve.embedded.server import start_server
from support.fake_server import client_of
from support.mixed_requests import QUESTIONS


def mixed(number: int) -> tuple[str, dict[str, Any]]:
    """A chat or a text, greedy or seeded, short or long; some have two choices, or a structure."""
    rng = random.Random(number)
    fields: dict[str, Any] = {"max_tokens": rng.randrange(1, 20), "n": rng.choice((1, 1, 1, 2))}
    fields |= {"temperature": 0} if number % 2 else {"temperature": 1.2, "seed": number}
    if number % 5 == 0:
        fields |= {"top_p": 0.9, "repetition_penalty": 1.1, "stop": ["。", "!"]}
    if number % 7 == 0:
        fields["structured_outputs"] = {"regex": "[a-z]{2,9}( [a-z]{2,9}){1,3}"}
    is_chat = rng.random() < 0.6
    if number % 6 == 0:
        fields |= {"logprobs": True, "top_logprobs": 2} if is_chat else {"logprobs": 2}
    question = rng.choice(QUESTIONS)
    if not is_chat:
        return "completions", {"prompt": question * rng.randrange(1, 9), **fields}
    earlier = [
        {"role": "user", "content": rng.choice(QUESTIONS)},
        {"role": "assistant", "content": "I see. " * rng.randrange(1, 20)},
    ]
    messages = [*earlier * rng.randrange(2), {"role": "user", "content": question}]
    return "chat/completions", {"messages": messages, **fields}


async def test_two_hundred_mixed_requests(tiny: LLM) -> None:
    requests = [mixed(number) for number in range(200)]

    def call(path: str, body: dict[str, Any]) -> Completion | ChatCompletion:
        fields = dict(body)
        if path == "completions":
            return tiny.generate(fields.pop("prompt"), **fields)
        return tiny.chat(fields.pop("messages"), return_token_ids=True, **fields)

    with ThreadPoolExecutor(100) as threads:  # many callers, and the order of a batch is theirs
        ours = list(threads.map(lambda request: call(*request), reversed(requests)))
    options = read_options({"dtype": "float32", "max_batch_size": 24})
    async with start_server(options) as server, client_of(create_app(server.context)) as client:
        posts = [
            client.post(f"/v1/{path}", json={**body, "return_token_ids": True})
            for path, body in requests
        ]
        responses = await asyncio.gather(*posts)
    for (path, body), own, response in zip(requests, reversed(ours), responses, strict=True):
        assert response.status_code == 200, response.text
        kind = Completion if path == "completions" else ChatCompletion
        theirs = msgspec.json.decode(response.content, type=kind)
        assert own.choices == theirs.choices, body
        assert own.usage is not None
        assert theirs.usage is not None
        assert own.usage.total_tokens == theirs.usage.total_tokens
