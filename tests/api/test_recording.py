"""Answers that outlive their connection and their server."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import msgspec
import pytest

from glmserve.config import SchedulerConfig
from glmserve.contract.prompt_layout import PromptMarks
from glmserve.contract.step import RunnerLimits, ScheduledSequence
from glmserve.journal import Claim
from support.fake_server import serve
from support.fakes import FakeRunner
from support.streaming import id_of, open_stream, texts_of

CHAT, TEXT = "/v1/chat/completions", "/v1/completions"
CALL = b'Hm. <tool_call>{"name": "get_time", "arguments": {"zone": "UTC"}}</tool_call>'
TOOL = {"name": "get_time", "parameters": {"type": "object"}}
SCHEMA = {"type": "object", "properties": {"a": {"type": "string", "maxLength": 9}}}
FORMAT = {"type": "json_schema", "json_schema": {"name": "x", "schema": SCHEMA}}
HELLO = [{"role": "user", "content": "hello"}]
ROOMY = RunnerLimits(
    num_blocks=1024,
    block_size=4,
    max_sequences=16,
    max_step_tokens=512,
    max_context=2048,
    max_drafts=64,
)
MARKED = msgspec.structs.replace(
    ROOMY, prompt_marks=PromptMarks(201, 200, 204), chunked_prefill=False, prefix_cache=False
)


class Script(FakeRunner):
    """Says a text: what follows in it after the part of it that a sequence ends with."""

    def __init__(self, text: bytes) -> None:
        super().__init__(ROOMY)
        self._script = [*text, 256]

    def _choose(self, sequence: ScheduledSequence) -> int:
        return self._next(self._read(sequence))

    def _next(self, tokens: list[int]) -> int:
        for length in range(min(len(tokens), len(self._script) - 1), -1, -1):
            if tokens[len(tokens) - length :] == self._script[:length]:
                return self._script[length]
        raise AssertionError


REQUESTS: dict[str, tuple[str, dict[str, Any]]] = {
    "chat": (CHAT, {"messages": HELLO, "max_tokens": 25}),
    "two choices, logprobs, usage": (
        CHAT,
        {
            "messages": HELLO,
            "n": 2,
            "max_tokens": 15,
            "logprobs": True,
            "top_logprobs": 2,
            "return_token_ids": True,
            "stream_options": {"include_usage": True},
        },
    ),
    "tools": (CHAT, {"messages": HELLO, "tools": [{"type": "function", "function": TOOL}]}),
    "schema": (CHAT, {"messages": HELLO, "response_format": FORMAT, "max_tokens": 60}),
    "stop string": (
        TEXT,
        {"prompt": "abc", "stop": ["_t"], "n": 2, "logprobs": 1, "max_tokens": 60},
    ),
    "echo of two prompts": (
        TEXT,
        {"prompt": ["abc", "de"], "n": 2, "max_tokens": 9, "echo": True, "logprobs": 1},
    ),
    "only a prompt": (TEXT, {"prompt": "abc", "max_tokens": 0, "echo": True, "logprobs": 1}),
    "penalties, bans": (
        TEXT,
        {"prompt": "abc", "presence_penalty": 0.5, "min_tokens": 7, "max_tokens": 20},
    ),
    "a prompt with marks": (
        TEXT,
        {"prompt": [7, 8, 201, 204], "n": 2, "max_tokens": 20, "return_token_ids": True},
    ),
    "guesses": (
        CHAT,
        {
            "messages": HELLO,
            "prediction": {"type": "content", "content": CALL.decode()},
            "stream_options": {"include_usage": True},
        },
    ),
    "response": (
        "/v1/responses",
        {"input": "hello", "tools": [{"type": "function", **TOOL}], "max_output_tokens": 99},
    ),
    "message": (
        "/v1/messages",
        {
            "messages": HELLO,
            "max_tokens": 99,
            "tools": [{"name": "get_time", "input_schema": TOOL["parameters"]}],
            "stop_sequences": ["UTC"],
        },
    ),
}


def runner_for(name: str) -> FakeRunner:
    if name == "a prompt with marks":
        return FakeRunner(MARKED)
    return FakeRunner(ROOMY) if name in ("echo of two prompts", "penalties, bans") else Script(CALL)


def scheduling(name: str) -> SchedulerConfig:
    """No more requests at once than make them wait for each other."""
    return SchedulerConfig(speculative_tokens=3 if name == "guesses" else 0, max_batch_size=3)


@pytest.mark.parametrize("name", REQUESTS)
async def test_a_server_may_die_after_any_event(name: str, tmp_path: Path) -> None:
    """Copies of the journal are what a killed server leaves behind."""
    path, fields = REQUESTS[name]
    body = {"model": "fake", "stream": True, **fields}
    events: list[bytes] = []
    async with (
        serve(runner_for(name), scheduling(name), journal=tmp_path / "journal") as app,
        open_stream(app, path, body) as stream,
    ):
        while (event := await stream.event()) is not None:
            events.append(event)
            shutil.copytree(tmp_path / "journal", tmp_path / str(len(events)))
    assert len(events) > 2
    step = -(-len(events) // 6)  # some of them will do
    for count in {*range(1, len(events) + 1, step), len(events)}:
        folder = tmp_path / str(count)
        async with serve(runner_for(name), scheduling(name), journal=folder) as app:
            last = {"Last-Event-ID": id_of(events[count - 1])}
            async with open_stream(app, path, body, last) as stream:
                both = events[:count] + await stream.rest()
            assert stream.status == 200
            assert texts_of(both) == texts_of(events)
            journal = app.state.context.answers.journal
            (entry,) = journal.index
            record = await journal.take(entry, Claim.STREAM)
            everything = {"Last-Event-ID": f"{id_of(events[0]).split(':')[0]}:0:0"}
            async with open_stream(app, path, body, everything) as stream:
                again = await stream.rest()
            assert await journal.take(entry, Claim.STREAM) == record
            assert [e.split(b"\n", 1)[1] for e in again] == [e.split(b"\n", 1)[1] for e in both]
