"""The compliance suite of Open Responses over WebSockets, translated as in
support/open_responses.py. Only the test that needs /v1/responses/compact is missing."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from support.fake_server import serve
from support.live_server import listening
from support.open_responses import (
    EVENTS,
    FINAL,
    RESPONSE,
    TEXT,
    Stream,
    an_object,
    has_events,
    is_completed,
    or_null,
    problems,
    said,
)
from support.scripted import ScriptedRunner
from support.websocket_client import WebSocketClient, open_websocket

ERROR = an_object(
    {"status": {"type": "integer"}},
    type={"const": "error"},
    error=an_object({"param": or_null(TEXT)}, code=or_null(TEXT), message=TEXT),
)
CREATE = {"type": "response.create", "model": "fake"}
Request = dict[str, Any]


@asynccontextmanager
async def session() -> AsyncIterator[Callable[..., Any]]:
    """Call it with requests, or functions of earlier turns, for their turns on one connection."""
    async with serve(ScriptedRunner(*["OK."] * 4)) as app, listening(app) as port:

        async def turns(*steps: Request | Callable[[list[Stream]], Request]) -> list[Stream]:
            done: list[Stream] = []
            async with open_websocket(port) as socket:
                for step in steps:
                    request = step(done) if callable(step) else step
                    await socket.send({**CREATE, **request})
                    done.append(await turn(socket))
            return done

        yield turns


async def turn(socket: WebSocketClient) -> Stream:
    """The events up to the one that ends a response, or up to an error."""
    events, errors = list[dict[str, Any]](), list[str]()
    while True:
        event = await socket.receive()
        events.append(event)
        schema = ERROR if event["type"] == "error" else EVENTS.get(event["type"])
        errors += problems(event, schema) if schema else [f"{event['type']}: unknown"]
        if event["type"] in FINAL:
            return Stream(events, errors, event["response"])
        if event["type"] == "error":
            return Stream(events, errors, None)


def check(stream: Stream) -> dict[str, Any]:
    """The response, which is complete and valid."""
    response = stream.final_response
    assert response is not None, stream.events
    assert problems(response, RESPONSE) == stream.errors == []
    assert is_completed(response, stream) == has_events(response, stream) == []
    return response


def error_code(stream: Stream) -> str | None:
    assert stream.errors == []
    assert stream.final_response is None
    code: str | None = stream.events[-1]["error"]["code"]
    return code


def goes_on(content: Any) -> Callable[[list[Stream]], Request]:
    """A request that goes on from the first response, which is not stored."""
    return lambda turns: {
        "store": False,
        "previous_response_id": check(turns[0])["id"],
        "input": content,
    }


async def test_response() -> None:
    async with session() as turns:
        (stream,) = await turns({"input": [said("Count from 1 to 3.")]})
    check(stream)


async def test_sequential_responses() -> None:
    words = ("first", "second")
    async with session() as turns:
        streams = await turns(
            *({"store": False, "input": f"Reply with exactly: {word}"} for word in words)
        )
    assert len({check(stream)["id"] for stream in streams}) == 2


async def test_continuation() -> None:
    async with session() as turns:
        first, second = await turns(
            {"store": False, "input": "Remember the code word: cobalt. Reply with OK."},
            goes_on("What is the code word? Reply with only the code word."),
        )
    tokens = [check(stream)["usage"]["input_tokens"] for stream in (first, second)]
    assert tokens[1] > tokens[0]  # the first turn is part of the second prompt


async def test_reconnect_store_false_recovery() -> None:
    async with session() as turns:
        (first,) = await turns(
            {"store": False, "input": "Remember the code word: copper. Reply with OK."}
        )
        again = goes_on("Try to continue after reconnect. Reply with exactly: reconnected")
        missed, recovered = await turns(
            again([first]), {"store": False, "input": [said("Start a new response.")]}
        )
    assert error_code(missed) == "previous_response_not_found"
    check(recovered)


async def test_previous_response_not_found() -> None:
    async with session() as turns:
        (stream,) = await turns(
            {"store": False, "previous_response_id": "resp_missing", "input": "This should fail."}
        )
    assert error_code(stream) == "previous_response_not_found"


async def test_failed_continuation_evicts_cache() -> None:
    result = {"type": "function_call_output", "call_id": "call_missing", "output": "None exists."}
    async with session() as turns:
        first, failed, retried = await turns(
            {"store": False, "input": "Remember the code word: ember. Reply with OK."},
            goes_on([result]),
            goes_on("Try to continue after the failed turn. Reply with exactly: stale"),
        )
    check(first)
    assert failed.events[-1]["type"] == "error"
    assert error_code(retried) == "previous_response_not_found"
