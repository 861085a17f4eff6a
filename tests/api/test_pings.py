"""Comments that keep a silent stream open, between events that callbacks write to the socket."""

from __future__ import annotations

import json
import re
import time

import msgspec
import pytest
from sse_starlette.sse import EventSourceResponse

from glmserve.contract.step import MaskSource, StepInput, StepOutput, no_masks
from support.fake_server import serve
from support.fakes import LIMITS, FakeRunner
from support.live_server import Connection, connect, listening

BODY = {"model": "fake", "prompt": "hi", "temperature": 0, "max_tokens": 50, "stream": True}
PIECE = re.compile(rb"(?:: ping[^\n]*\n\n|data: [^\n]+\n\n)+")
TEXT = re.compile(rb'"text":"((?:[^"\\]|\\.)*)"')


class SlowRunner(FakeRunner):
    """Its steps take longer than the time between two comments."""

    def execute(self, step: StepInput, masks: MaskSource = no_masks) -> StepOutput:
        time.sleep(0.002)
        return super().execute(step, masks)


async def pieces_of(connection: Connection) -> list[bytes]:
    """The chunks of a stream."""
    content = json.dumps(BODY).encode()
    head = f"POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Length: {len(content)}\r\n\r\n"
    await connection.send(head.encode() + content)
    await connection.head()
    pieces = []
    while size := int(await connection.until(b"\r\n"), 16):
        pieces.append((await connection.exactly(size + 2))[:-2])
    await connection.until(b"\r\n")
    return pieces


async def test_comments_stand_between_whole_events(monkeypatch: pytest.MonkeyPatch) -> None:
    runner = SlowRunner(msgspec.structs.replace(LIMITS, num_blocks=64))
    async with serve(runner) as app, listening(app) as port, connect(port) as connection:
        plain = b"".join(await pieces_of(connection))
        monkeypatch.setattr(EventSourceResponse, "DEFAULT_PING_INTERVAL", 1e-4)
        pieces = await pieces_of(connection)
    assert all(PIECE.fullmatch(piece) for piece in pieces)
    assert sum(piece.startswith(b": ping") for piece in pieces) > 5
    assert b"".join(TEXT.findall(b"".join(pieces))) == b"".join(TEXT.findall(plain))
