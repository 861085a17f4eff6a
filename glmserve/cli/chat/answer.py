"""One answer: shown while it comes, and kept as a message."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from glmserve.embedded.results import ChatChunk, ToolCall, Usage

Show = Callable[[str, bool], None]
"""Called with new text, and whether it is a thought."""


@dataclass
class Answer:
    """What the model has said so far, and when."""

    content: str = ""
    calls: list[dict[str, Any]] = field(default_factory=list)
    """In the shape of a message's tool_calls."""
    usage: Usage | None = None
    is_stopped: bool = False
    """Ctrl-C ended it."""
    begin: float = field(default_factory=time.perf_counter)
    first: float | None = None
    end: float | None = None
    num_chunks: int = 0

    @property
    def message(self) -> dict[str, Any] | None:
        """The message for the conversation; None: nothing was said."""
        if not self.content and not self.calls:
            return None
        calls = {"tool_calls": self.calls} if self.calls else {}
        return {"role": "assistant", "content": self.content or None, **calls}

    def follow(self, chunks: Iterable[ChatChunk], show: Show) -> None:
        """Read the answer to its end. Ctrl-C ends it early.

        Raises:
            GlmserveError: the answer failed.
        """
        try:
            for chunk in chunks:
                self._add(chunk, show)
        except KeyboardInterrupt:
            self.is_stopped = True
            self.calls.clear()  # half a call is none
        finally:
            self.end = time.perf_counter()
            close = getattr(chunks, "close", None)
            if close is not None:
                close()

    def figures(self) -> str:
        """Tokens and times, for a reader."""
        if self.first is None or self.end is None:
            return "no answer"
        wait, decode = self.first - self.begin, self.end - self.first
        count = self.usage.completion_tokens if self.usage else self.num_chunks
        what = "tokens" if self.usage else "pieces"
        prompt = f"{self.usage.prompt_tokens} tokens read, " if self.usage else ""
        rate = f", {(count - 1) / decode:.1f} {what}/s" if decode > 0 and count > 1 else ""
        return f"{prompt}first token after {wait:.2f} s, {count} {what} in {decode:.2f} s{rate}"

    def _add(self, chunk: ChatChunk, show: Show) -> None:
        self.usage = chunk.usage or self.usage
        for choice in chunk.choices:
            delta = choice.delta
            if delta.content or delta.reasoning_content or delta.tool_calls:
                self.first = self.first or time.perf_counter()
                self.num_chunks += 1
            if delta.reasoning_content:
                show(delta.reasoning_content, True)
            if delta.content:
                self.content += delta.content
                show(delta.content, False)
            for call in delta.tool_calls or ():
                self._add_call(call)

    def _add_call(self, part: ToolCall) -> None:
        """A first part begins a call, and each further part has more of its arguments."""
        index = part.index or 0
        while len(self.calls) <= index:
            self.calls.append(
                {"id": "", "type": "function", "function": {"name": "", "arguments": ""}}
            )
        call = self.calls[index]
        call["id"] = part.id or call["id"]
        call["function"]["name"] += part.function.name or ""
        call["function"]["arguments"] += part.function.arguments
