"""What one API key's flood costs another's time to first token.

    python bench/fairness.py --flood 1000

Serves glm-tiny, or what the options behind `--` say, with two keys. One asks one question after the
other, first alone, then while the other has a full batch under way and the rest of its flood waits.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from statistics import median

import aiohttp

from local_server import LocalServer

Session = aiohttp.ClientSession


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--flood", type=int, default=1000, help="requests that wait")
    parser.add_argument("--flood-tokens", type=int, default=200, help="of each of their answers")
    parser.add_argument("--questions", type=int, default=30, help="measured in each state")
    parser.add_argument("--prompt-tokens", type=int, default=32, help="of each question")
    parser.add_argument("--warm-up", type=float, default=3, help="seconds for the batch to fill")
    parser.add_argument("server", nargs="*", help="options of glmserve serve, behind --")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        keys = Path(folder, "keys.txt")
        keys.write_text("guest\nflood\n")
        keys.chmod(0o600)
        with LocalServer(*options.server, "--api-key-file", str(keys)) as server:
            asyncio.run(compare(options, server.url))


async def compare(options: argparse.Namespace, url: str) -> None:
    connector = aiohttp.TCPConnector(limit=0)
    async with Session(url, connector=connector) as session:
        async with session.get("/v1/models", headers=key("guest")) as response:
            model = (await response.json())["data"][0]["id"]
        await first_tokens(session, model, options)  # warms up
        alone = await first_tokens(session, model, options)
        async with flood(session, model, options):
            beside = await first_tokens(session, model, options)
    print(f"alone           {report(alone)}")
    print(f"beside a flood  {report(beside)}: {median(beside) / median(alone):.2f}x")


@asynccontextmanager
async def flood(session: Session, model: str, options: argparse.Namespace) -> AsyncIterator[None]:
    """Queue them all, and wait until the batch is full."""
    tasks = [
        asyncio.create_task(ask(session, model, "flood", prompt(options), options.flood_tokens))
        for _ in range(options.flood)
    ]
    await asyncio.sleep(options.warm_up)
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await asyncio.sleep(1)


async def first_tokens(session: Session, model: str, options: argparse.Namespace) -> list[float]:
    """Times to the first token, one question after the other, in seconds."""
    return [
        await ask(session, model, "guest", prompt(options), 8) for _ in range(options.questions)
    ]


def prompt(options: argparse.Namespace) -> list[int]:
    """Ids that no other prompt begins with."""
    return random.choices(range(100, 2000), k=options.prompt_tokens)


async def ask(
    session: Session, model: str, whose: str, prompt_ids: list[int], max_tokens: int
) -> float:
    """Read an answer to its end; the seconds until its first token, if it is a guest's."""
    body = {
        "model": model,
        "prompt": prompt_ids,
        "max_tokens": max_tokens,
        "ignore_eos": True,
        "stream": whose == "guest",
        "temperature": 0,
    }
    begin = time.perf_counter()
    first = 0.0
    async with session.post("/v1/completions", json=body, headers=key(whose)) as response:
        response.raise_for_status()
        async for _ in response.content:
            first = first or time.perf_counter() - begin
    return first


def key(name: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {name}"}


def report(seconds: list[float]) -> str:
    ordered = [1000 * value for value in sorted(seconds)]
    return f"median {median(ordered):7.1f} ms   slowest {ordered[-1]:7.1f} ms"


if __name__ == "__main__":
    main()
