"""What everything but the model costs: CPU time of the server process per streamed token.

    python bench/overhead.py --streams 64 --tokens 512

    python bench/overhead.py -- --journal /tmp/journal

    python bench/overhead.py --streams 256 --checkout ../before .

Serves the `null` device, which answers at once, and reads the server's CPU time from the operating
system before and after. This device is faster than the server, so tokens of two steps often share
an event; the CPU time per event is what a token costs that comes alone. With several checkouts,
their servers take turns.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import time
from collections.abc import Mapping
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
    parser.add_argument(
        "--checkout", nargs="+", type=Path, help="sources to run; default: what is installed"
    )
    options = parser.parse_args()
    arguments = ("--device", "null", "--max-batch-size", str(options.streams), *options.server)
    checkouts = [path.resolve() for path in options.checkout or ()] or [None]
    with contextlib.ExitStack() as stack:
        servers = {
            checkout.name if checkout else "installed": stack.enter_context(
                LocalServer(*arguments, checkout=checkout)
            )
            for checkout in checkouts
        }
        asyncio.run(measure(options, servers))


async def measure(options: argparse.Namespace, servers: Mapping[str, LocalServer]) -> None:
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:
        for server in servers.values():
            await run_streams(session, server.url, options)
        for _ in range(options.repeats):
            for name, server in servers.items():
                print(f"{name}: {await measured_round(session, server, options)}", flush=True)


async def measured_round(
    session: aiohttp.ClientSession, server: LocalServer, options: argparse.Namespace
) -> str:
    """All streams at once; what they cost, in words."""
    before, start = cpu_seconds(server.pid), time.perf_counter()
    events = await run_streams(session, server.url, options)
    spent = cpu_seconds(server.pid) - before
    seconds = time.perf_counter() - start
    tokens = options.streams * options.tokens
    return (
        f"{options.streams} streams x {options.tokens} tokens: "
        f"{1e6 * spent / tokens:.1f} us of server CPU per token, "
        f"{1e6 * spent / events:.1f} per event "
        f"({events} events, {tokens / seconds:.0f} tokens/s)"
    )


async def run_streams(session: aiohttp.ClientSession, url: str, options: argparse.Namespace) -> int:
    """All streams at once; how many events came."""
    body = {
        "model": "glm-tiny",
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
