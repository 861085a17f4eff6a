"""One streamed request, timed event by event."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import msgspec

from glmserve.load_test.result import Result

_DATA = b"data: "


async def send(session: aiohttp.ClientSession, url: str, body: dict[str, Any]) -> Result:
    """Send a request and read its stream to the end; failures are in the result."""
    result = Result(sent=time.perf_counter())
    try:
        async with session.post(url, json=body) as response:
            if response.status != 200:
                result.error = f"{response.status}: {(await response.text())[:200]}"
                return result
            async for lines in _lines(response.content):
                _read_lines(result, lines)
    except (aiohttp.ClientError, TimeoutError, OSError, msgspec.DecodeError) as error:
        result.error = f"{type(error).__name__}: {error}"
    if result.error is None and not result.output_tokens:
        result.error = "the stream ended without usage"
    return result


async def _lines(stream: aiohttp.StreamReader) -> AsyncIterator[list[bytes]]:
    """The lines of a stream, those that arrived together at a time."""
    rest = b""
    async for chunk in stream.iter_any():
        *lines, rest = (rest + chunk).split(b"\n")
        yield lines
    yield [rest]


def _read_lines(result: Result, lines: list[bytes]) -> None:
    now = time.perf_counter()
    for line in lines:
        if line.startswith(_DATA) and not line.startswith(b"[DONE]", len(_DATA)):
            _read_event(result, msgspec.json.decode(line[len(_DATA) :]), now)


def _read_event(result: Result, event: dict[str, Any], now: float) -> None:
    if "error" in event:
        result.error = str(event["error"])
    if usage := event.get("usage"):
        result.prompt_tokens = usage["prompt_tokens"]
        result.output_tokens = usage["completion_tokens"]
    choices = event.get("choices", ())
    result.text += "".join(map(_text, choices))
    if any(map(_has_content, choices)):
        if result.last is None:
            result.first = now
        else:
            result.gaps.append(now - result.last)
        result.last = now


def _text(choice: dict[str, Any]) -> str:
    delta = choice.get("delta")
    text: str | None = delta.get("content") if isinstance(delta, dict) else choice.get("text")
    return text or ""


def _has_content(choice: dict[str, Any]) -> bool:
    delta = choice.get("delta")
    if isinstance(delta, dict):
        return bool(delta.get("content"))
    return bool(choice.get("text") or choice.get("token_ids"))
