"""Conversations of all lengths, for servers of glm-tiny."""

from __future__ import annotations

import json
import random
from typing import Any

import httpx

QUESTIONS = (
    "Hello!",
    "What is glmserve?",
    "Tell me a story.",
    "你好",
    "你是谁？",
    "What is a paged KV cache?",
    "Count from 1 to 10",
    "讲个故事",
)


def requests_of_mixed_lengths(number: int) -> list[dict[str, Any]]:
    rng = random.Random(5)
    bodies = []
    for i in range(number):
        messages = []
        for _ in range(rng.randrange(3)):
            messages.append({"role": "user", "content": rng.choice(QUESTIONS)})
            messages.append({"role": "assistant", "content": "I see. " * rng.randrange(1, 30)})
        messages.append({"role": "user", "content": rng.choice(QUESTIONS)})
        sampled = {"temperature": 0.9, "seed": i} if i % 4 == 0 else {"temperature": 0}
        bodies.append(
            {
                "model": "glm-tiny",
                "messages": messages,
                "max_tokens": rng.randrange(1, 120),
                "ignore_eos": i % 3 == 0,
                "stream": True,
                **sampled,
            }
        )
    return bodies


async def streamed_text(client: httpx.AsyncClient, body: dict[str, Any]) -> str:
    text = ""
    async with client.stream("POST", "/v1/chat/completions", json=body) as response:
        assert response.status_code == 200
        async for line in response.aiter_lines():
            if line.startswith("data: {"):
                text += json.loads(line[6:])["choices"][0]["delta"].get("content", "")
    return text
