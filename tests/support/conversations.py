"""Conversations of several turns, and how much of their prompts a fleet had cached."""

from __future__ import annotations

import random
from typing import Any

import httpx

WORDS = "river stone winter market garden letter silver bridge morning paper".split()


async def cached_share(url: str, path: str, *, seed: int, talks: int = 8, turns: int = 6) -> float:
    """Share of the prompt tokens that `cached_tokens` counts, over conversations that take turns.

    The first turn of a conversation has nothing to find, and is not counted.

    Args:
        seed: of the words. Another seed finds nothing of earlier conversations.
        path: where to ask, such as `/v1/chat/completions`.
    """
    histories: list[list[dict[str, Any]]] = [[] for _ in range(talks)]
    chance = random.Random(seed)
    cached = prompt = 0
    async with httpx.AsyncClient(base_url=url, timeout=120) as client:
        for turn in range(turns):
            for history in histories:
                said = " ".join(chance.choices(WORDS, k=30))
                history.append({"role": "user", "content": said})
                body = {"model": "glm-tiny", "messages": history, "max_tokens": 4}
                answer = (await client.post(path, json=body)).raise_for_status().json()
                history.append(answer["choices"][0]["message"] | {"role": "assistant"})
                if turn:
                    prompt += answer["usage"]["prompt_tokens"]
                    cached += answer["usage"]["prompt_tokens_details"]["cached_tokens"]
    return cached / prompt
