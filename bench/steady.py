"""What an option does to streams while prompts keep arriving: servers with and without it, in turn.

    python bench/steady.py --option="--max-step-time 0"
    python bench/steady.py --option="--max-step-time 0.1" --always="--checkpoint S --dtype bfloat16"

Each of `--concurrency` clients sends one request after the other. The lengths of answers are drawn,
so prompts come at any moment of other answers.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import shlex
import time
from collections.abc import Sequence
from statistics import median
from typing import NamedTuple

import aiohttp

from glmserve.capacity.report import percentile
from glmserve.load_test.client import send
from glmserve.load_test.result import Result
from local_server import LocalServer


class Figures(NamedTuple):
    """Milliseconds, but for the first."""

    tokens_per_second: float
    gap_p50: float
    gap_p99: float
    first_p50: float
    first_p95: float


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--option", required=True, help="what the second server is started with")
    parser.add_argument("--always", default="", help="what both are started with")
    parser.add_argument("--concurrency", type=int, nargs="+", default=[16])
    parser.add_argument("--prompt-tokens", type=int, default=128)
    parser.add_argument("--output-tokens", type=int, default=128, help="mean of the answers")
    parser.add_argument("--requests", type=int, default=4, help="of each client in a round")
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    always = shlex.split(options.always)
    with (
        LocalServer(*always) as without,
        LocalServer(*always, *shlex.split(options.option)) as with_it,
    ):
        for concurrency in options.concurrency:
            rounds = [
                [
                    asyncio.run(measure(server.url, options, concurrency, number))
                    for server in (without, with_it)
                ]
                for number in range(options.rounds + 1)
            ][1:]  # the first round warms up
            print(f"{concurrency} at once, without and with {options.option}; ratio of each round")
            for i, name in enumerate(Figures._fields):
                first, second = (median(pair[k][i] for pair in rounds) for k in (0, 1))
                ratios = [pair[1][i] / pair[0][i] for pair in rounds]
                print(
                    f"  {name:18} {first:9.1f} {second:9.1f}   {median(ratios):.3f}"
                    f" ({min(ratios):.3f} to {max(ratios):.3f})",
                    flush=True,
                )


async def measure(url: str, options: argparse.Namespace, concurrency: int, seed: int) -> Figures:
    """One round of one server."""
    rng = random.Random(seed)
    mean = options.output_tokens
    lengths = [
        [rng.randint(mean // 2, mean * 3 // 2) for _ in range(options.requests)]
        for _ in range(concurrency)
    ]
    prompts = [
        [[rng.randrange(100, 1000) for _ in range(options.prompt_tokens)] for _ in client]
        for client in lengths
    ]
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:
        async with session.get(f"{url}/v1/models") as response:
            model = (await response.json())["data"][0]["id"]

        async def client(number: int) -> list[Result]:
            results = []
            for prompt, tokens in zip(prompts[number], lengths[number], strict=True):
                body: dict[str, object] = {
                    "model": model,
                    "prompt": prompt,
                    "temperature": 0,
                    "max_tokens": tokens,
                    "ignore_eos": True,
                    "stream": True,
                    "stream_options": {"include_usage": True},
                    "return_token_ids": True,
                }
                results.append(await send(session, f"{url}/v1/completions", body))
            return results

        start = time.perf_counter()
        clients = await asyncio.gather(*map(client, range(concurrency)))
        elapsed = time.perf_counter() - start
    return figures([result for results in clients for result in results], elapsed)


def figures(results: Sequence[Result], elapsed: float) -> Figures:
    """The figures of a round that took `elapsed` seconds.

    Raises:
        SystemExit: a request failed.
    """
    if errors := [result.error for result in results if result.error]:
        raise SystemExit(f"{len(errors)} requests failed, the first one: {errors[0]}")
    gaps = sorted(gap for result in results for gap in result.gaps)
    first = sorted(result.ttft for result in results if result.ttft is not None)
    tokens = sum(result.output_tokens for result in results)
    times = (
        percentile(gaps, 0.5),
        percentile(gaps, 0.99),
        percentile(first, 0.5),
        percentile(first, 0.95),
    )
    return Figures(tokens / elapsed, *(1e3 * seconds for seconds in times))


if __name__ == "__main__":
    main()
