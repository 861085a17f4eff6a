"""What structured requests cost the plain requests that share their batch.

    python bench/mixed.py --plain 12 --structured 4

Serves glm-tiny (or --checkpoint) and runs two loads in turn, A B A B: all requests plain, and some
of them held to a JSON schema. Reports the tokens per second of the plain ones, B over A.
"""

from __future__ import annotations

import argparse
import asyncio
import time
from statistics import median

import aiohttp

from local_server import LocalServer

SCHEMA = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "maxLength": 40},
        "tags": {"type": "array", "items": {"type": "string", "maxLength": 12}, "minItems": 2000},
    },
    "required": ["name", "tags"],
    "additionalProperties": False,
}
"""Too long to be finished: the constraint works until max_tokens."""


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--plain", type=int, default=12)
    parser.add_argument("--structured", type=int, default=4)
    parser.add_argument("--tokens", type=int, default=300, help="per request")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--checkpoint", help="default: glm-tiny")
    parser.add_argument("--load-format", default="auto", choices=("auto", "dummy"))
    options = parser.parse_args()
    arguments = ["--load-format", options.load_format]
    if options.checkpoint:
        arguments += ["--checkpoint", options.checkpoint]
    with LocalServer(*arguments) as server:
        asyncio.run(compare(options, server.url))


async def compare(options: argparse.Namespace, url: str) -> None:
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:
        async with session.get(f"{url}/v1/models") as response:
            model = (await response.json())["data"][0]["id"]
        ratios = []
        for number in range(options.rounds + 1):
            alone = await plain_rate(session, url, model, options, structured=False)
            mixed = await plain_rate(session, url, model, options, structured=True)
            if number:  # the first round warms up
                ratios.append(mixed / alone)
                print(f"plain alone {alone:8.1f} tok/s   beside structured {mixed:8.1f} tok/s")
    print(
        f"{options.plain} plain requests beside {options.structured} structured ones run at "
        f"{median(ratios):.3f} of their speed beside as many plain ones "
        f"({min(ratios):.3f} to {max(ratios):.3f})"
    )


async def plain_rate(
    session: aiohttp.ClientSession,
    url: str,
    model: str,
    options: argparse.Namespace,
    *,
    structured: bool,
) -> float:
    """Tokens per second of the plain requests, while the others run as long as they do."""
    extra = {"guided_json": SCHEMA} if structured else {"ignore_eos": True}
    others = [
        asyncio.create_task(generate(session, url, model, options.tokens + 100, extra))
        for _ in range(options.structured)
    ]
    begin = time.perf_counter()
    plain = {"ignore_eos": True}
    await asyncio.gather(
        *(generate(session, url, model, options.tokens, plain) for _ in range(options.plain))
    )
    elapsed = time.perf_counter() - begin
    for other in others:
        other.cancel()
    await asyncio.gather(*others, return_exceptions=True)
    return options.plain * options.tokens / elapsed


async def generate(
    session: aiohttp.ClientSession, url: str, model: str, tokens: int, extra: dict[str, object]
) -> None:
    body = {
        "model": model,
        "messages": [{"role": "user", "content": "Hello!"}],
        "max_tokens": tokens,
        "temperature": 1,
        "top_p": 0.95,
        "seed": 1,
        **extra,
    }
    async with session.post(f"{url}/v1/chat/completions", json=body) as response:
        response.raise_for_status()
        await response.read()


if __name__ == "__main__":
    main()
