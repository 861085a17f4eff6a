"""What the board costs: the throughput of 64 streams with a reader of /board/events, and without.

Both are measured in turn on one server, several times. Printed are the median ratio of throughputs,
and of the processor time that the server process, which plans and answers, needs for a token. The
second hardly depends on what else the machine does.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import statistics
import sys
import time
from pathlib import Path
from typing import Any, NamedTuple

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


class Result(NamedTuple):
    """Of one run of all streams."""

    throughput: float
    """Tokens per second."""
    cpu: float
    """Seconds of the server process for a token."""


def cpu_seconds(pid: int) -> float:
    """Processor time of a process so far, without its children."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


async def measured(client: httpx.AsyncClient, pid: int, num_tokens: int) -> Result:
    begin, cpu = time.perf_counter(), cpu_seconds(pid)
    await asyncio.gather(*(stream(client, i, num_tokens) for i in range(STREAMS)))
    total = STREAMS * num_tokens
    return Result(total / (time.perf_counter() - begin), (cpu_seconds(pid) - cpu) / total)


async def look_on(client: httpx.AsyncClient) -> None:
    async with client.stream("GET", "/board/events") as response:
        async for _ in response.aiter_bytes():
            pass


async def compare(server: ServerProcess, options: argparse.Namespace) -> list[tuple[float, float]]:
    """Ratios of throughput and of processor time, with a reader to without, one for each round."""
    limits: Any = httpx.Limits(max_connections=None)
    ratios = []
    async with httpx.AsyncClient(base_url=server.url, timeout=None, limits=limits) as client:
        await measured(client, server.pid, options.tokens)
        for number in range(options.rounds):
            results = {}
            for is_watched in ((False, True), (True, False))[number % 2]:
                looking = asyncio.create_task(look_on(client)) if is_watched else None
                results[is_watched] = await measured(client, server.pid, options.tokens)
                if looking is not None:
                    looking.cancel()
                    await asyncio.gather(looking, return_exceptions=True)
            alone, watched = results[False], results[True]
            ratios.append((watched.throughput / alone.throughput, watched.cpu / alone.cpu))
            for name, result in (("alone", alone), ("with the board", watched)):
                print(
                    f"{name}: {result.throughput:.0f} tokens/s, {result.cpu * 1e6:.0f} us a token"
                )
    return ratios


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=9, help="measurements of each kind")
    parser.add_argument("--tokens", type=int, default=150, help="tokens of each stream")
    options = parser.parse_args()
    with ServerProcess("--dtype", "float32") as server:
        ratios = asyncio.run(compare(server, options))
    for name, values in zip(
        ("throughput", "processor time"), zip(*ratios, strict=True), strict=True
    ):
        median, least, most = statistics.median(values), min(values), max(values)
        print(f"{name}: median ratio {median:.3f}, from {least:.3f} to {most:.3f}")


if __name__ == "__main__":
    main()
