"""What the board costs: the throughput of 64 streams with a reader of /board/events, and without.

Both are measured in turn on one server, several times, and their median ratio is printed.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import sys
import time
from pathlib import Path
from typing import Any

import httpx

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from support.server_process import ServerProcess

STREAMS = 64


async def stream(client: httpx.AsyncClient, number: int, num_tokens: int) -> None:
    body = {
        "prompt": f"{number} Once upon a time",
        "max_tokens": num_tokens,
        "ignore_eos": True,
        "stream": True,
        "temperature": 0,
    }
    async with client.stream("POST", "/v1/completions", json=body) as response:
        async for _ in response.aiter_bytes():
            pass


async def throughput(client: httpx.AsyncClient, num_tokens: int) -> float:
    """Tokens per second of all streams together."""
    begin = time.perf_counter()
    await asyncio.gather(*(stream(client, i, num_tokens) for i in range(STREAMS)))
    return STREAMS * num_tokens / (time.perf_counter() - begin)


async def look_on(client: httpx.AsyncClient) -> None:
    async with client.stream("GET", "/board/events") as response:
        async for _ in response.aiter_bytes():
            pass


async def compare(url: str, options: argparse.Namespace) -> list[float]:
    """Ratios of throughput with a reader to that without, one for each round."""
    limits: Any = httpx.Limits(max_connections=None)
    ratios = []
    async with httpx.AsyncClient(base_url=url, timeout=None, limits=limits) as client:
        await throughput(client, options.tokens)
        for number in range(options.rounds):
            results = {}
            for is_watched in ((False, True), (True, False))[number % 2]:
                looking = asyncio.create_task(look_on(client)) if is_watched else None
                results[is_watched] = await throughput(client, options.tokens)
                if looking is not None:
                    looking.cancel()
                    await asyncio.gather(looking, return_exceptions=True)
            ratios.append(results[True] / results[False])
            print(f"{results[False]:.0f} tokens/s alone, {results[True]:.0f} with the board")
    return ratios


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=9, help="measurements of each kind")
    parser.add_argument("--tokens", type=int, default=150, help="tokens of each stream")
    options = parser.parse_args()
    with ServerProcess("--dtype", "float32") as server:
        ratios = asyncio.run(compare(server.url, options))
    print(
        f"median ratio {statistics.median(ratios):.3f}, from {min(ratios):.3f} to {max(ratios):.3f}"
    )


if __name__ == "__main__":
    main()
