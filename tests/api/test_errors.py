"""Whatever is wrong with a request, the answer is OpenAI's error object and names the field."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from starlette.applications import Starlette

from glmserve.config import SchedulerConfig, ServerConfig
from glmserve.engine import Engine
from glmserve.request import SamplingParams
from support.fake_server import client_of, serve
from support.fakes import LIMITS, FakeRunner
from support.token_streams import next_tokens

CHAT = "/v1/chat/completions"
COMPLETIONS = "/v1/completions"
MESSAGES = [{"role": "user", "content": "hi"}]


def error_of(response: httpx.Response) -> dict[str, Any]:
    error: dict[str, Any] = response.json()["error"]
    assert error.keys() == {"message", "type", "param", "code"}
    assert error["message"]
    return error


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("temperature", -1),
        ("temperature", 2.1),
        ("temperature", "0.5"),
        ("temperature", True),
        ("top_p", -0.1),
        ("top_p", 1.5),
        ("top_k", -2),
        ("min_p", 1.5),
        ("max_tokens", 0),
        ("max_tokens", 1.5),
        ("max_tokens", 10**30),
        ("presence_penalty", 3),
        ("repetition_penalty", 0),
        ("repetition_penalty", 1e-300),
        ("seed", "x"),
        ("seed", 2**63),
        ("stop", [1]),
        ("stop", ["x"] * 17),
        ("stop_token_ids", [-1]),
        ("stop_token_ids", [10**6]),
        ("logit_bias", {"x": 1}),
        ("logit_bias", {"1": 101}),
        ("logit_bias", {"1": 1, "01": 2}),
        ("logit_bias", {"99999999": 1}),
        ("stream", "yes"),
        ("stream_options", {"include_usage": True}),
        ("n", 0),
        ("n", 129),
        ("min_tokens", 5),
        ("metadata", "note"),
        ("store", "yes"),
        ("modalities", ["audio"]),
        ("audio", {"voice": "x"}),
        ("functions", [{"name": "f"}]),
        ("reasoning_effort", 3),
        ("service_tier", 1),
        ("stream_options", {"include_obfuscation": True}),
        ("top_logprobs", 3),
        ("tool_choice", "required"),
        ("tool_choice", {"type": "function", "function": {"name": "f"}}),
        ("guided_regex", "("),
        ("guided_json", "{"),
        ("messages", []),
        ("messages", "hi"),
        ("messages", MESSAGES * 2049),
        ("messages", [{"role": "user"}]),
        ("messages", [{"role": "tool", "content": "x"}]),
        ("messages", [{"role": "user", "content": [{"type": "image_url", "image_url": "x"}]}]),
        ("tools", [{"type": "function", "function": {"name": "two words"}}]),
        ("tools", [{"type": "telepathy"}]),
        ("response_format", {"type": "xml"}),
        ("logprobs", 5),
        ("no_such_field", 1),
        ("model", 7),
    ],
)
async def test_a_bad_field_is_named(client: httpx.AsyncClient, field: str, value: Any) -> None:
    body = {"model": "fake", "messages": MESSAGES, "max_tokens": 4, field: value}
    response = await client.post(CHAT, json=body)
    assert response.status_code == 400, response.text
    error = error_of(response)
    assert error["type"] == "invalid_request_error"
    assert error["param"].split(".")[0] == field
    assert field in error["message"] or "token id" in error["message"]


@pytest.mark.parametrize(
    ("body", "param", "said"),
    [
        ({"prompt": [""] * 100_000}, "prompt", "at most 2048 prompts"),
        ({"prompt": [1, ""]}, "prompt", "must be a string, a list"),
        ({"prompt": [[1], [2, -1]]}, "prompt.1.1", "greater than or equal to 0"),
        ({"prompt": [1, -1]}, "prompt.1", "greater than or equal to 0"),
        ({"prompt": ["x"] * 1025, "n": 2}, "n", "at most 2048"),
        ({"prompt": ["x"] * 1025, "best_of": 2}, "n", "at most 2048"),
        ({"prompt": None}, "prompt", "required"),
        ({"prompt": "x", "stop": [1]}, "stop.0", "string"),
        ({"prompt": "x", "stop": {}}, "stop", "string"),
        ({"prompt": "x", "guided_choice": "ab"}, "guided_choice", "must be a list"),
        ({"prompt": "x", "structured_outputs": 1}, "structured_outputs", "must be an object"),
        ({"prompt": "x", "int": 1}, "int", "not supported"),
        ({"prompt": "x", "foo[0]": 1}, "foo[0]", "not supported"),
        ({"prompt": "x", "": 1}, "", "not supported"),
        ({"prompt": "x", "logit_bias": {"300": 1}}, "logit_bias", "vocabulary of 257"),
    ],
)
async def test_the_member_of_a_union_that_was_meant_complains(
    client: httpx.AsyncClient, body: dict[str, Any], param: str, said: str
) -> None:
    response = await client.post(COMPLETIONS, json={"model": "fake", **body})
    assert response.status_code == 400
    error = error_of(response)
    assert error["param"] == param
    assert said in error["message"]


async def test_null_means_absent(client: httpx.AsyncClient) -> None:
    body = {"model": "fake", "messages": MESSAGES, "max_tokens": 4, "tools": None, "stop": None}
    body |= {"stream": True, "stream_options": {"include_usage": None}, "audio": None}
    assert (await client.post(CHAT, json=body)).status_code == 200


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b'{"model": "fake", "messages": NaN}',
        b'{"model": "\xff"}',
        b"[" * 100_000,
        b'{"a":' * 5000,
    ],
)
async def test_a_body_that_is_no_json_object(client: httpx.AsyncClient, content: bytes) -> None:
    response = await client.post(CHAT, content=content)
    assert response.status_code == 400
    assert error_of(response)["type"] == "invalid_request_error"


async def test_lone_surrogates_are_refused(client: httpx.AsyncClient) -> None:
    body = b'{"model": "fake", "messages": [{"role": "user", "content": "\\ud800"}]}'
    response = await client.post(CHAT, content=body)
    assert response.status_code == 400


@pytest.mark.parametrize("path", [CHAT, COMPLETIONS, "/tokenize", "/detokenize"])
async def test_a_huge_body_is_refused(path: str) -> None:
    async def pieces() -> AsyncIterator[bytes]:
        for _ in range(101):
            yield b" " * 10

    config = ServerConfig(served_model_name="fake", max_body_size=1000)
    async with serve(config=config) as app, client_of(app) as client:
        for content in (b" " * 1001, pieces()):
            response = await client.post(path, content=content)
            assert response.status_code == 413
            assert error_of(response)["code"] == "request_too_large"
        assert (await client.post(path, content=b" " * 1000)).status_code == 400


async def test_a_compressed_body_is_refused(client: httpx.AsyncClient) -> None:
    response = await client.post(CHAT, content=b"x", headers={"Content-Encoding": "gzip"})
    assert response.status_code == 415
    assert "'gzip'" in response.json()["error"]["message"]


async def test_unknown_model(client: httpx.AsyncClient) -> None:
    response = await client.post(CHAT, json={"model": "gpt-5", "messages": MESSAGES})
    assert response.status_code == 404
    assert error_of(response)["code"] == "model_not_found"


@pytest.mark.parametrize(
    ("prompt", "max_tokens", "param"), [(100, 29, "max_tokens"), (128, 1, "prompt")]
)
async def test_too_long(
    client: httpx.AsyncClient, prompt: int, max_tokens: int, param: str
) -> None:
    body = {"model": "fake", "prompt": [1] * prompt, "max_tokens": max_tokens}
    response = await client.post(COMPLETIONS, json=body)
    assert response.status_code == 400
    error = error_of(response)
    assert (error["code"], error["param"]) == ("context_length_exceeded", param)
    assert error["message"] == (
        f"This model's maximum context length is 128 tokens. However, you requested "
        f"{prompt + max_tokens} tokens ({prompt} in the prompt, {max_tokens} in the completion). "
        "Please reduce the length of the prompt or completion."
    )


@pytest.mark.parametrize("fields", [{}, {"max_tokens": 1}])
async def test_a_conversation_that_is_too_long(
    client: httpx.AsyncClient, fields: dict[str, Any]
) -> None:
    messages = [{"role": "user", "content": "x" * 200}]
    response = await client.post(CHAT, json={"model": "fake", "messages": messages, **fields})
    assert response.status_code == 400
    error = error_of(response)
    assert (error["code"], error["param"]) == ("context_length_exceeded", "messages")
    assert error["message"].startswith(
        "This model's maximum context length is 128 tokens. However, you requested "
    )
    assert "in the messages" in error["message"]


@pytest.mark.parametrize(
    "prompt", [[], [10**6], [-1], [1.5], ["a", 1], [[]], [["a"]], [[[1]]], {}, 7]
)
async def test_bad_prompts(client: httpx.AsyncClient, prompt: Any) -> None:
    response = await client.post(COMPLETIONS, json={"model": "fake", "prompt": prompt})
    assert response.status_code == 400
    assert error_of(response)["param"].startswith("prompt")


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("/nowhere", "/docs lists"),
        ("/chat/completions", f"did you mean {CHAT}?"),
        ("/v1/v1/chat/completions", f"did you mean {CHAT}?"),
        ("//v1/chat/completions", f"did you mean {CHAT}?"),
        ("/v1/completions//", f"did you mean {COMPLETIONS}?"),
        ("/api/paas/v4/nowhere", "/docs lists"),
    ],
)
async def test_unknown_paths(client: httpx.AsyncClient, path: str, said: str) -> None:
    for method in ("GET", "POST", "BREW"):
        response = await client.request(method, f"http://test{path}")
        assert response.status_code == 404
        error = error_of(response)
        assert (error["type"], error["code"]) == ("invalid_request_error", "unknown_url")
        assert said in error["message"]


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("GET", CHAT, {"POST"}),
        ("OPTIONS", CHAT, {"POST"}),
        ("POST", "/v1/models", {"GET", "HEAD"}),
        ("DELETE", "/v1/models/fake", {"GET", "HEAD"}),
    ],
)
async def test_wrong_methods(
    client: httpx.AsyncClient, method: str, path: str, allowed: set[str]
) -> None:
    response = await client.request(method, path)
    assert response.status_code == 405
    assert set(response.headers["allow"].split(", ")) == allowed
    error = error_of(response)
    assert error["code"] == "method_not_supported"
    assert method in error["message"]


@pytest.mark.parametrize("status", [429, 406])
async def test_full_queue(status: int) -> None:
    config = ServerConfig(served_model_name="fake", queue_full_status=status)
    scheduler = SchedulerConfig(max_batch_size=1, queue_size=1)
    async with serve(scheduler=scheduler, config=config) as app, client_of(app) as client:
        engine: Engine = app.state.context.engine
        streams = [engine.submit([1], SamplingParams(max_tokens=100)) for _ in range(2)]
        await next_tokens(streams[0])
        body = {"model": "fake", "prompt": "x"}
        responses = [await client.post(COMPLETIONS, json=body) for _ in range(2)]
        assert responses[-1].status_code == status
        assert responses[-1].headers["retry-after"]
        assert error_of(responses[-1])["code"] == "queue_full"
        for stream in streams:
            stream.close()


async def test_while_loading(make_client: Any) -> None:
    client = await make_client(start=False)
    assert (await client.get("/health/live")).status_code == 200
    ready = await client.get("/health/ready")
    assert (ready.status_code, ready.json()["status"]) == (503, "loading")
    for path in (CHAT, "/v1/models"):
        method = client.post if path == CHAT else client.get
        options = {"json": {"model": "fake", "messages": MESSAGES}} if path == CHAT else {}
        response = await method(path, **options)
        assert response.status_code == 503
        assert response.headers["retry-after"]
        assert error_of(response)["code"] == "not_ready"


async def test_a_failure_within_a_stream_is_an_event() -> None:
    runner = FakeRunner()
    async with serve(runner=runner) as app, client_of(app) as client:
        runner.fail_at_step = 3
        body = {"model": "fake", "prompt": "x", "max_tokens": 50, "stream": True}
        response = await client.post(COMPLETIONS, json=body)
        assert response.status_code == 200
        assert '"code":"engine_dead"' in response.text.split("\n\n")[-2]
        assert (await client.get("/health/ready")).status_code == 503
        assert (await client.post(COMPLETIONS, json=body)).status_code == 500


@pytest.mark.parametrize("stream", [False, True])
async def test_a_client_that_leaves_frees_its_blocks(stream: bool) -> None:
    async with serve(runner=FakeRunner(LIMITS)) as app:
        engine: Engine = app.state.context.engine
        body = b'{"model":"fake","prompt":"x","max_tokens":120,"stream":%s}' % (
            b"true" if stream else b"false"
        )
        await _call_and_leave(app, body)
        assert engine.stats.registry.get_sample_value("glmserve_kv_blocks_used") == 0
        aborted = {"reason": "abort"}
        name = "glmserve_requests_finished_total"
        assert engine.stats.registry.get_sample_value(name, aborted) == 1


async def _call_and_leave(app: Starlette, body: bytes) -> None:
    """An ASGI call whose client is gone right after its request."""
    incoming = [{"type": "http.request", "body": body, "more_body": False}]

    async def receive() -> dict[str, Any]:
        return incoming.pop() if incoming else {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        """Nobody is there."""

    scope = {
        "type": "http",
        "method": "POST",
        "path": COMPLETIONS,
        "raw_path": COMPLETIONS.encode(),
        "query_string": b"",
        "headers": [],
        "app": app,
    }
    await app(scope, receive, send)


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ('"stop": "a\\ud800"', "stop"),
        ('"temperature": NaN', "temperature"),
        ('"temperature": -Infinity', "temperature"),
        ('"logit_bias": {"1": 1e999}', "logit_bias.1"),
        ('"user": "x", "stop": ["a", "\\udfff"]', "stop.1"),
        ('"user": "\\ud83d\\ude00", "seed": 1e400', "seed"),
        ('"\\ud800": NaN', "\\ud800"),
        ('"stop": "a', None),
        ('"stop": ' + "[" * 100_000, None),
    ],
)
async def test_values_that_json_does_not_know_are_named(
    client: httpx.AsyncClient, fields: str, param: str | None
) -> None:
    content = '{"model": "fake", "prompt": "x", ' + fields + "}"
    response = await client.post(COMPLETIONS, content=content)
    assert response.status_code == 400
    assert error_of(response)["param"] == param
    assert "not valid JSON" in error_of(response)["message"]


HI = {"role": "user", "content": "hi"}
CALL = {"type": "tool_use", "id": "a", "name": "f", "input": {}}
NAMED: list[tuple[str, list[Any], str]] = [
    (
        "/v1/responses",
        [HI, {"type": "reasoning", "summary": []}, {"type": "item_reference", "id": "x"}],
        "input.2.id",
    ),
    (
        "/v1/responses",
        [
            {"type": "reasoning", "summary": []},
            HI,
            {"type": "function_call_output", "call_id": "x", "output": "1"},
        ],
        "input.2.call_id",
    ),
    (
        "/v1/responses",
        [HI, *[{"type": "function_call", "call_id": "a", "name": "f", "arguments": "{}"}] * 257],
        "input.257",
    ),
    ("/v1/responses", [{"type": "reasoning", "summary": []}], "input"),
    (
        "/v1/messages",
        [
            HI,
            {"role": "assistant", "content": [CALL]},
            {
                "role": "user",
                "content": [
                    {"type": "text", "text": "so"},
                    {"type": "tool_result", "tool_use_id": "b", "content": "1"},
                ],
            },
        ],
        "messages.2.content.1.tool_use_id",
    ),
    ("/v1/messages", [HI, {"role": "assistant", "content": [CALL] * 257}], "messages.1.content"),
    (
        "/v1/chat/completions",
        [HI, {"role": "assistant", "content": "x", "partial": True}, HI],
        "messages.1.partial",
    ),
    ("/v1/chat/completions", [HI, {"role": "function", "content": "x"}], "messages.1.role"),
]


@pytest.mark.parametrize(("path", "conversation", "place"), NAMED)
async def test_the_item_that_the_client_sent_is_named(
    client: httpx.AsyncClient, path: str, conversation: list[Any], place: str
) -> None:
    body: dict[str, Any] = {"model": "fake"}
    body |= {"input": conversation} if "resp" in path else {"messages": conversation}
    if path == "/v1/messages":
        body |= {"max_tokens": 3, "system": "a system message comes first"}
    answer = await client.post(path, json=body)
    assert answer.status_code == 400
    error = answer.json()["error"]
    assert error["message"].startswith(f"{place}:")
    assert error.get("param", place) == place
