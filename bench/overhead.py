"""What everything but the model costs: CPU time of the server process per streamed token.

    python bench/overhead.py --streams 64 --tokens 512

    python bench/overhead.py -- --journal /tmp/journal

Serves the `null` device, which answers at once, and reads the server's CPU time from the operating
system before and after.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import time
from pathlib import Path

import aiohttp

from local_server import LocalServer

_TICKS = os.sysconf("SC_CLK_TCK")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--streams", type=int, default=64)
    parser.add_argument("--tokens", type=int, default=512, help="per stream")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("server", nargs="*", help="behind --: further options of the server")
    options = parser.parse_args()
    arguments = ("--device", "null", "--max-batch-size", str(options.streams), *options.server)
    with LocalServer(*arguments) as server:
        asyncio.run(measure(options, server.pid, server.url))


async def measure(options: argparse.Namespace, pid: int, url: str) -> None:
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:
        model = "glm-tiny"
        await run_streams(session, url, model, options)
        for _ in range(options.repeats):
            before, start = cpu_seconds(pid), time.perf_counter()
            events = await run_streams(session, url, model, options)
            spent = cpu_seconds(pid) - before
            seconds = time.perf_counter() - start
            tokens = options.streams * options.tokens
            print(
                f"{options.streams} streams x {options.tokens} tokens: "
                f"{1e6 * spent / tokens:.1f} us of server CPU per token "
                f"({events} events, {tokens / seconds:.0f} tokens/s)"
            )


async def run_streams(
    session: aiohttp.ClientSession, url: str, model: str, options: argparse.Namespace
) -> int:
    """All streams at once; how many events came."""
    body = {
        "model": model,
        "stream": True,
        "ignore_eos": True,
        "temperature": 0,
        "max_tokens": options.tokens,
        "messages": [{"role": "user", "content": "Hello!"}],
    }

    async def stream() -> int:
        async with session.post(f"{url}/v1/chat/completions", json=body) as response:
            response.raise_for_status()
            return (await response.read()).count(b"data: ")

    return sum(await asyncio.gather(*(stream() for _ in range(options.streams))))


def cpu_seconds(pid: int) -> float:
    """User and system time of a process."""
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS


if __name__ == "__main__":
    main()
