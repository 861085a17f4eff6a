"""Completions of a running server, all of the same lengths, timed by their client."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from dataclasses import dataclass
from statistics import median

import aiohttp
import uvloop

from glmserve.load_test.client import send
from glmserve.load_test.result import Result


@dataclass(frozen=True)
class Served:
    """What came of some requests."""

    tokens_per_second: float
    """Of output."""
    first_token_ms: float
    """Median over the requests; those at once share their steps, so it grows with their number."""
    inter_token_ms: float
    """Median over all tokens: while all requests decode, the time of a step; 0 without any."""


def complete(
    url: str,
    prompts: list[list[int]],
    output_tokens: int,
    concurrency: int,
    fields: Mapping[str, object] | None = None,
) -> Served:
    """Complete `prompts`, `concurrency` of them at once; `fields` are added to each request.

    Raises:
        SystemExit: a request failed or ended early.
    """
    return uvloop.run(_complete(url, prompts, output_tokens, concurrency, fields or {}))


async def _complete(
    url: str,
    prompts: list[list[int]],
    output_tokens: int,
    concurrency: int,
    fields: Mapping[str, object],
) -> Served:
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(connector=connector) as session:
        async with session.get(f"{url}/v1/models") as response:
            model = (await response.json())["data"][0]["id"]
        start = time.perf_counter()
        results: list[Result] = []
        for i in range(0, len(prompts), concurrency):
            batch = prompts[i : i + concurrency]
            bodies = [{**_body(model, prompt, output_tokens), **fields} for prompt in batch]
            results += await asyncio.gather(
                *(send(session, f"{url}/v1/completions", body) for body in bodies)
            )
        elapsed = time.perf_counter() - start
    for result in results:
        if result.error or result.output_tokens != output_tokens:
            raise SystemExit(f"{url}: {result.error or 'stopped early'}")
    lengths = {result.prompt_tokens for result in results}
    if lengths != {len(prompt) for prompt in prompts}:
        raise SystemExit(f"{url}: counted prompts of {lengths} tokens")
    gaps = [gap for result in results for gap in result.gaps]
    return Served(
        len(prompts) * output_tokens / elapsed,
        1e3 * median(result.ttft for result in results if result.ttft is not None),
        1e3 * median(gaps) if gaps else 0.0,
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
