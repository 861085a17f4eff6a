"""What an option of `glmserve serve` costs or gains: servers with and without it, in turn.

    python bench/option.py --option=--deterministic
    python bench/option.py --option="--kv-cache-dtype int8" --always="--dtype bfloat16"

Both servers stay up; loads go to one, then to the other, A B A B, so that ratios hold on a machine
whose speed drifts.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import shlex
import time
from statistics import median

import aiohttp

from client import send
from local_server import LocalServer


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--option", required=True, help="what the second server is started with")
    parser.add_argument("--always", default="", help="what both are started with")
    parser.add_argument("--concurrency", type=int, nargs="+", default=[1, 16])
    parser.add_argument("--prompt-tokens", type=int, default=128)
    parser.add_argument("--output-tokens", type=int, default=128)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    always = shlex.split(options.always)
    with (
        LocalServer(*always) as without,
        LocalServer(*always, *shlex.split(options.option)) as with_it,
    ):
        for concurrency in options.concurrency:
            ratios = asyncio.run(compare(options, concurrency, [without.url, with_it.url]))
            print(
                f"{concurrency} at once: {median(ratios):.3f} of the tokens per second with "
                f"{options.option} ({min(ratios):.3f} to {max(ratios):.3f})"
            )


async def compare(options: argparse.Namespace, concurrency: int, urls: list[str]) -> list[float]:
    """Tokens per second of the second server over the first's, in each round."""
    ratios = []
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:
        for number in range(options.rounds + 1):
            rates = [await rate(options, session, url, concurrency, number) for url in urls]
            if number:  # the first round warms up
                ratios.append(rates[1] / rates[0])
    return ratios


async def rate(
    options: argparse.Namespace,
    session: aiohttp.ClientSession,
    url: str,
    concurrency: int,
    seed: int,
) -> float:
    """Output tokens per second of so many requests at once, of prompts nobody has seen."""
    rng = random.Random(seed)
    async with session.get(f"{url}/v1/models") as response:
        model = (await response.json())["data"][0]["id"]
    bodies = [
        {
            "model": model,
            "prompt": [rng.randrange(100, 1000) for _ in range(options.prompt_tokens)],
            "temperature": 0,
            "max_tokens": options.output_tokens,
            "ignore_eos": True,
            "stream": True,
            "stream_options": {"include_usage": True},
        }
        for _ in range(concurrency)
    ]
    start = time.perf_counter()
    results = await asyncio.gather(
        *(send(session, f"{url}/v1/completions", body) for body in bodies)
    )
    for result in results:
        if result.error or result.output_tokens != options.output_tokens:
            raise SystemExit(f"{url}: {result.error or 'stopped early'}")
    return concurrency * options.output_tokens / (time.perf_counter() - start)


if __name__ == "__main__":
    main()
