"""Clients that leave in the middle of something."""

from __future__ import annotations

import asyncio
import json
import random
import socket
import struct
from contextlib import suppress
from typing import Any

BODY: dict[str, Any] = {
    "model": "glm-tiny",
    "prompt": "Once upon a time",
    "max_tokens": 500,
    "ignore_eos": True,
    "stream": True,
}


def request(body: dict[str, Any], path: str = "/v1/completions") -> bytes:
    """A whole POST."""
    data = json.dumps(body).encode()
    head = f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(data)}\r\n\r\n"
    return head.encode() + data


async def leave(address: tuple[str, int], rng: random.Random) -> None:
    """Connect, do a part of what a client does, and be gone, politely or not."""
    loop = asyncio.get_running_loop()
    data = request(BODY | {"n": rng.choice([1, 1, 3]), "stream": rng.random() < 0.7})
    if rng.random() < 0.1:
        data *= 3
    with socket.socket() as client, suppress(ConnectionError):
        client.setblocking(False)
        await loop.sock_connect(client, address)
        how_far = rng.choice(["nothing", "head", "body", "request", "answer", "pause"])
        cut = {"nothing": 0, "head": rng.randrange(60), "body": rng.randrange(80, 120)}
        await loop.sock_sendall(client, data[: cut.get(how_far, len(data))])
        if how_far == "answer":
            with suppress(TimeoutError):
                async with asyncio.timeout(0.3):  # what is not streamed takes longer
                    for _ in range(rng.randrange(1, 20)):
                        await loop.sock_recv(client, rng.choice([10, 1000]))
        if how_far == "pause":
            await asyncio.sleep(rng.uniform(0, 0.05))
        if rng.random() < 0.5:  # a reset in place of a goodbye
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


async def leave_often(address: tuple[str, int], count: int, at_once: int, seed: int = 0) -> None:
    """So many clients, some of them at the same time."""
    rng = random.Random(seed)
    places = asyncio.Semaphore(at_once)

    async def one() -> None:
        async with places:
            await leave(address, rng)

    await asyncio.gather(*(one() for _ in range(count)))
