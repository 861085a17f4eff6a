"""Load test for any OpenAI-compatible server: closed or Poisson arrivals, streaming.

    python bench/load.py --url http://127.0.0.1:8000 --requests 100 --concurrency 16
    python bench/load.py --url http://127.0.0.1:8000 --requests 500 --rate 20 --plot load.png

Prompts are random words (chat) or random token ids (completions, exact lengths). Token counts are
the server's own, from `usage`.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import aiohttp
from tqdm import tqdm

from client import Result, send
from report import plot, summarise, table
from workload import Job, jobs, length

_TIMEOUT = aiohttp.ClientTimeout(total=None, sock_connect=30, sock_read=600)


def main() -> int:
    options = parse_options()
    try:
        results, elapsed, client_cpu = asyncio.run(run(options))
    except (aiohttp.ClientError, OSError, LookupError) as error:
        print(f"load.py: error: {options.url}: {error}", file=sys.stderr)
        return 1
    summary = summarise(results, elapsed, client_cpu)
    print(table(summary))
    if options.json:
        options.json.write_text(json.dumps(_with_settings(options, summary), indent=2) + "\n")
    if options.plot:
        plot(
            results, f"{options.url}: {summary['output_tokens_per_second']} tokens/s", options.plot
        )
    return 1 if summary["errors"] else 0


def parse_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--url", default="http://127.0.0.1:8000", help="without /v1")
    parser.add_argument("--model", help="default: the first of /v1/models")
    parser.add_argument("--api-key")
    parser.add_argument("--endpoint", choices=("chat", "completions"), default="chat")
    parser.add_argument("--requests", type=int, default=64)
    parser.add_argument("--warmup", type=int, default=2, help="requests that are not counted")
    arrivals = parser.add_mutually_exclusive_group()
    arrivals.add_argument("--concurrency", type=int, default=16, help="closed loop: always so many")
    arrivals.add_argument("--rate", type=float, help="Poisson arrivals per second, open loop")
    parser.add_argument("--prompt-tokens", type=length, default="128", help="128, uniform:64:256 …")
    parser.add_argument("--output-tokens", type=length, default="128")
    parser.add_argument(
        "--token-ids",
        type=int,
        nargs=2,
        default=(100, 1000),
        metavar=("LOW", "HIGH"),
        help="range of random ids for completions",
    )
    parser.add_argument("--ignore-eos", action="store_true", help="always make all output tokens")
    parser.add_argument("--temperature", type=float, default=0.0)
    parser.add_argument("--seed", type=int, default=0, help="of lengths, prompts and arrivals")
    parser.add_argument("--json", type=Path, metavar="FILE")
    parser.add_argument("--plot", type=Path, metavar="FILE.png")
    return parser.parse_args()


async def run(options: argparse.Namespace) -> tuple[list[Result], float, float]:
    """All results, elapsed seconds and this process's CPU seconds."""
    headers = {"Authorization": f"Bearer {options.api_key}"} if options.api_key else {}
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(
        connector=connector, headers=headers, timeout=_TIMEOUT
    ) as session:
        model = options.model or await _first_model(session, options.url)
        path = "chat/completions" if options.endpoint == "chat" else "completions"
        url = f"{options.url}/v1/{path}"
        rng = random.Random(options.seed)
        plan = list(jobs(options, model, rng))
        for job in plan[: options.warmup]:
            await send(session, url, job.body)
        start, cpu = time.perf_counter(), time.process_time()
        with tqdm(total=len(plan), unit="req", disable=None) as bar:
            if options.rate:
                results = await _open_loop(session, url, plan, bar)
            else:
                results = await _closed_loop(session, url, plan, options.concurrency, bar)
        return results, time.perf_counter() - start, time.process_time() - cpu


async def _first_model(session: aiohttp.ClientSession, url: str) -> str:
    async with session.get(f"{url}/v1/models") as response:
        response.raise_for_status()
        name: str = (await response.json())["data"][0]["id"]
        return name


async def _closed_loop(
    session: aiohttp.ClientSession, url: str, plan: list[Job], concurrency: int, bar: tqdm[None]
) -> list[Result]:
    """`concurrency` users, each sending its next request when the last one is answered."""
    queue = iter(plan)

    async def user(queue: Iterator[Job]) -> list[Result]:
        results = []
        for job in queue:
            results.append(await send(session, url, job.body))
            bar.update()
        return results

    users = [user(queue) for _ in range(min(concurrency, len(plan)))]
    return [result for results in await asyncio.gather(*users) for result in results]


async def _open_loop(
    session: aiohttp.ClientSession, url: str, plan: list[Job], bar: tqdm[None]
) -> list[Result]:
    """Requests when they are due, whether or not earlier ones are answered."""
    start = time.perf_counter()

    async def later(job: Job) -> Result:
        await asyncio.sleep(max(0.0, start + job.due - time.perf_counter()))
        result = await send(session, url, job.body)
        bar.update()
        return result

    return list(await asyncio.gather(*(later(job) for job in plan)))


def _with_settings(options: argparse.Namespace, summary: dict[str, Any]) -> dict[str, Any]:
    """The summary, and what was asked for, so that a result can be read on its own."""
    settings = {
        key: value
        for key, value in vars(options).items()
        if key not in ("api_key", "json", "plot", "prompt_tokens", "output_tokens")
    }
    return {"settings": settings, "command": sys.argv[1:], **summary}


if __name__ == "__main__":
    sys.exit(main())
