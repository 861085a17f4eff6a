"""One streamed request, timed event by event."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass, field

import aiohttp


@dataclass
class Result:
    """What came back, in seconds of the client's clock."""

    sent: float
    first: float | None = None
    """Arrival of the first text."""
    last: float | None = None
    """Arrival of the newest text."""
    gaps: list[float] = field(default_factory=list)
    """Between two arrivals of text."""
    prompt_tokens: int = 0
    output_tokens: int = 0
    error: str | None = None

    @property
    def ttft(self) -> float | None:
        """Time to first token."""
        return None if self.first is None else self.first - self.sent

    @property
    def tpot(self) -> float | None:
        """Time per output token after the first."""
        if self.first is None or self.last is None or self.output_tokens < 2:
            return None
        return (self.last - self.first) / (self.output_tokens - 1)

    @property
    def duration(self) -> float | None:
        return None if self.last is None else self.last - self.sent


async def send(session: aiohttp.ClientSession, url: str, body: dict[str, object]) -> Result:
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
    if any(_has_content(choice) for choice in event.get("choices", ())):
        if result.last is None:
            result.first = now
        else:
            result.gaps.append(now - result.last)
        result.last = now


def _has_content(choice: dict[str, object]) -> bool:
    delta = choice.get("delta")
    if isinstance(delta, dict):
        return bool(delta.get("content"))
    return bool(choice.get("text") or choice.get("token_ids"))
