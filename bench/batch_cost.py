"""What a batch costs the requests that come beside it.

    python bench/batch_cost.py --checkpoint DIR --load-format dummy

Serves glm-tiny, or what the options behind `--` say, with a folder for batches. Two loads are
measured, in turn without and with a full batch (A B A B): streams that follow each other without a
pause, and single requests with pauses, in which the batch runs. Reports the speed of the streams (1
over the time per output token) and the time to first token, B over A. Of the requests of a round
the first quartile counts, because what else a machine does makes some of them slow.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import tempfile
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from statistics import median

import aiohttp

from glmserve.load_test.client import send
from glmserve.load_test.result import Result
from local_server import LocalServer

CHAT = "/v1/chat/completions"
CHOOSER = random.Random(7)
"""Of words and pauses: no question comes twice, so none is found in the prefix cache."""


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--streams", type=int, default=2, help="that follow each other at once")
    parser.add_argument("--tokens", type=int, default=48, help="of each answer")
    parser.add_argument("--prompt-words", type=int, default=64, help="of each question")
    parser.add_argument("--lines", type=int, default=5000, help="of the batch")
    parser.add_argument("--line-tokens", type=int, default=200, help="of each of its answers")
    parser.add_argument("--pause", type=float, default=0.5, help="mean seconds between requests")
    parser.add_argument("--seconds", type=float, default=8, help="of each measurement")
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("server", nargs="*", help="options of glmserve serve, behind --")
    options = parser.parse_args()
    with (
        tempfile.TemporaryDirectory() as folder,
        LocalServer(*options.server, "--batch-dir", folder) as server,
    ):
        asyncio.run(compare(options, server.url))


async def compare(options: argparse.Namespace, url: str) -> None:
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(url, connector=connector) as session:
        loads = {"streams without pauses": streams, "requests with pauses": single_requests}
        await streams(session, options)  # warms up
        for name, load in loads.items():
            speeds, waits = list[float](), list[float]()
            for _ in range(options.rounds):
                alone = await load(session, options)
                async with full_batch(session, options) as count:
                    begun = await count()
                    beside = await load(session, options)
                    lines = await count() - begun
                speeds.append(time_per_token(alone) / time_per_token(beside))
                waits.append(first_token(beside) / first_token(alone))
                print(
                    f"{name}: alone {1e3 * first_token(alone):7.1f} ms to the first token, "
                    f"{1e3 * time_per_token(alone):6.2f} ms per token; beside a batch "
                    f"{1e3 * first_token(beside):7.1f} and {1e3 * time_per_token(beside):6.2f}, "
                    f"{lines} lines meanwhile"
                )
            print(
                f"{name}: {median(speeds):.3f} of the speed ({min(speeds):.3f} to "
                f"{max(speeds):.3f}), {median(waits):.2f}x to the first token "
                f"({min(waits):.2f} to {max(waits):.2f})"
            )


@asynccontextmanager
async def full_batch(
    session: aiohttp.ClientSession, options: argparse.Namespace
) -> AsyncIterator[Callable[[], asyncio.Future[int]]]:
    """A batch that runs; gives what counts its answered lines."""
    form = aiohttp.FormData({"purpose": "batch"})
    form.add_field("file", b"\n".join(lines(options)), filename="lines.jsonl")
    async with session.post("/v1/files", data=form) as response:
        file_id = (await response.json())["id"]
    body = {"input_file_id": file_id, "endpoint": CHAT, "completion_window": "24h"}
    async with session.post("/v1/batches", json=body) as response:
        path = f"/v1/batches/{(await response.json())['id']}"

    async def count() -> int:
        async with session.get(path) as response:
            completed: int = (await response.json())["request_counts"]["completed"]
            return completed

    await asyncio.sleep(3.0)  # until it is full
    try:
        yield count  # type: ignore[misc]
    finally:
        async with session.post(f"{path}/cancel") as response:
            await response.read()
        status = ""
        while status != "cancelled":
            await asyncio.sleep(0.2)
            async with session.get(path) as response:
                status = (await response.json())["status"]


def lines(options: argparse.Namespace) -> list[bytes]:
    return [
        json.dumps(
            {
                "custom_id": str(number),
                "method": "POST",
                "url": CHAT,
                "body": question(options, options.line_tokens),
            }
        ).encode()
        for number in range(options.lines)
    ]


async def streams(session: aiohttp.ClientSession, options: argparse.Namespace) -> list[Result]:
    """Streams, each followed by the next at once."""
    end = time.perf_counter() + options.seconds

    async def one_after_the_other() -> list[Result]:
        results = list[Result]()
        while time.perf_counter() < end:
            results.append(await ask(session, options))
        return results

    found = await asyncio.gather(*(one_after_the_other() for _ in range(options.streams)))
    return [result for results in found for result in results]


async def single_requests(
    session: aiohttp.ClientSession, options: argparse.Namespace
) -> list[Result]:
    """One request after the other, with pauses."""
    end, results = time.perf_counter() + options.seconds, list[Result]()
    while time.perf_counter() < end:
        await asyncio.sleep(CHOOSER.uniform(0.2, 1.8) * options.pause)
        results.append(await ask(session, options))
    return results


async def ask(session: aiohttp.ClientSession, options: argparse.Namespace) -> Result:
    body = question(options, options.tokens)
    body |= {"stream": True, "stream_options": {"include_usage": True}}
    result = await send(session, CHAT, body)
    if result.error is not None:
        raise SystemExit(result.error)
    return result


def question(options: argparse.Namespace, tokens: int) -> dict[str, object]:
    text = " ".join(str(CHOOSER.randrange(1000)) for _ in range(options.prompt_words))
    message = {"role": "user", "content": text}
    return {"messages": [message], "max_tokens": tokens, "ignore_eos": True}


def time_per_token(results: list[Result]) -> float:
    return first_quartile([result.tpot for result in results if result.tpot is not None])


def first_token(results: list[Result]) -> float:
    return first_quartile([result.ttft for result in results if result.ttft is not None])


def first_quartile(values: list[float]) -> float:
    return sorted(values)[len(values) // 4]


if __name__ == "__main__":
    main()
