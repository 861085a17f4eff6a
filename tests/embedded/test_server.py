"""The pipeline without HTTP."""

from __future__ import annotations

import json
from typing import Any

import pytest

from glmserve.api.answering.outcome import AnswerStream, WholeAnswer
from glmserve.embedded.options import read_options
from glmserve.embedded.server import EmbeddedServer, start_server
from glmserve.errors import ContextLengthError, InvalidRequestError, ModelNotFoundError

CHAT = {"messages": [{"role": "user", "content": "hello"}], "max_tokens": 4}


async def whole(server: EmbeddedServer, path: str, body: Any) -> dict[str, Any]:
    answer = await server.answer(path, body)
    assert isinstance(answer, WholeAnswer)
    return json.loads(answer.body)  # type: ignore[no-any-return]


async def test_every_kind_of_request_is_answered() -> None:
    async with start_server(read_options({"device": "null"})) as server:
        chat = await whole(server, "/v1/chat/completions", CHAT)
        assert chat["usage"]["completion_tokens"] == 4
        again = await whole(server, "/v1/chat/completions", json.dumps(CHAT).encode())
        assert again["choices"] == chat["choices"]
        text = await whole(server, "/v1/completions", {"prompt": (5, 6), "max_tokens": 2})
        assert text["choices"][0]["finish_reason"] == "length"
        first = await whole(server, "/v1/responses", {"input": "hi", "max_output_tokens": 2})
        more = {"input": "go on", "previous_response_id": first["id"], "max_output_tokens": 2}
        assert (await whole(server, "/v1/responses", more))["status"] == "incomplete"

        stream = await server.answer("/v1/chat/completions", {**CHAT, "stream": True})
        assert isinstance(stream, AnswerStream)
        events = [event async for event in stream.events()]
        stream.close()
        assert events[-1] == b"data: [DONE]\n\n"

        for body, error, param in (
            ({**CHAT, "temperature": float("nan")}, InvalidRequestError, None),
            ({**CHAT, "temperatur": 1}, InvalidRequestError, "temperatur"),
            ({**CHAT, "model": "other"}, ModelNotFoundError, "model"),
            ({**CHAT, "max_tokens": 10**6}, ContextLengthError, "max_tokens"),
            ({**CHAT, "messages": object()}, InvalidRequestError, None),
        ):
            with pytest.raises(error) as raised:
                await server.answer("/v1/chat/completions", body)
            assert raised.value.param == param
        with pytest.raises(InvalidRequestError, match="there is no '/v1/nothing' here"):
            await server.answer("/v1/nothing", CHAT)
        with pytest.raises(InvalidRequestError, match="background"):
            await server.answer("/v1/responses", {"input": "hi", "background": True})
