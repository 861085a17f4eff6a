"""One streamed request, timed event by event."""

from __future__ import annotations

import json
import time
from typing import Any

import aiohttp

from glmserve.load_test.result import Result


async def send(session: aiohttp.ClientSession, url: str, body: dict[str, Any]) -> Result:
    """Send a request and read its stream to the end; failures are in the result."""
    result = Result(sent=time.perf_counter())
    try:
        async with session.post(url, json=body) as response:
            if response.status != 200:
                result.error = f"{response.status}: {(await response.text())[:200]}"
                return result
            async for line in response.content:
                if line.startswith(b"data: "):
                    _read_event(result, line[6:])
    except (aiohttp.ClientError, TimeoutError, OSError) as error:
        result.error = f"{type(error).__name__}: {error}"
    if result.error is None and not result.output_tokens:
        result.error = "the stream ended without usage"
    return result


def _read_event(result: Result, data: bytes) -> None:
    if data.startswith(b"[DONE]"):
        return
    now = time.perf_counter()
    event = json.loads(data)
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
