"""Completions of a running glmserve, all of the same lengths, timed by their client."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from statistics import median

import aiohttp

from client import Result, send


@dataclass(frozen=True)
class Served:
    """What came of some requests."""

    tokens_per_second: float
    """Of output."""
    first_token_ms: float
    """Median over the requests; those at once share their steps, so it grows with their number."""
    inter_token_ms: float
    """Median over all tokens: while all requests decode, the time of a step."""


def complete(url: str, prompts: list[list[int]], output_tokens: int, concurrency: int) -> Served:
    """Complete `prompts`, `concurrency` of them at once.

    Raises:
        SystemExit: a request failed or ended early.
    """
    return asyncio.run(_complete(url, prompts, output_tokens, concurrency))


async def _complete(
    url: str, prompts: list[list[int]], output_tokens: int, concurrency: int
) -> Served:
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(connector=connector) as session:
        async with session.get(f"{url}/v1/models") as response:
            model = (await response.json())["data"][0]["id"]
        start = time.perf_counter()
        results: list[Result] = []
        for i in range(0, len(prompts), concurrency):
            bodies = [_body(model, p, output_tokens) for p in prompts[i : i + concurrency]]
            results += await asyncio.gather(
                *(send(session, f"{url}/v1/completions", body) for body in bodies)
            )
        elapsed = time.perf_counter() - start
    for result in results:
        if result.error or result.output_tokens != output_tokens:
            raise SystemExit(f"glmserve: {result.error or 'stopped early'}")
    return Served(
        len(prompts) * output_tokens / elapsed,
        1e3 * median(result.ttft for result in results if result.ttft is not None),
        1e3 * median(gap for result in results for gap in result.gaps),
    )


def _body(model: str, prompt: list[int], output_tokens: int) -> dict[str, object]:
    return {
        "model": model,
        "prompt": prompt,
        "temperature": 0,
        "max_tokens": output_tokens,
        "ignore_eos": True,
        "stream": True,
        "stream_options": {"include_usage": True},
    }
