"""Attacks that were published against other servers, each as a request.

They are named by what was attacked; most have a CVE of vLLM, SGLang, TGI, Triton or llama.cpp.
"""

from __future__ import annotations

import base64
import pickle
import socket
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from glmserve.config import ConnectionConfig, ServerConfig
from support.fake_server import client_of, serve, tenants
from support.fakes import FakeRunner
from support.live_server import HOST, connect, listening

CHAT = "/v1/chat/completions"
COMPLETIONS = "/v1/completions"
USER = {"role": "user", "content": "hi"}


async def refusal(client: httpx.AsyncClient, path: str, body: dict[str, Any]) -> dict[str, Any]:
    response = await client.post(path, json={"model": "fake", **body})
    assert response.status_code in (400, 404), response.text
    error: dict[str, Any] = response.json()["error"]
    return error


class TestRequestsThatReach:
    """Out of the server, or into its files."""

    @pytest.mark.parametrize("kind", ["image_url", "input_audio", "video_url", "file"])
    async def test_urls_are_not_fetched(self, client: httpx.AsyncClient, kind: str) -> None:
        with socket.create_server((HOST, 0)) as trap:
            trap.settimeout(0)
            url = f"http://{HOST}:{trap.getsockname()[1]}/"
            part = {"type": kind, kind: {"url": url}}
            error = await refusal(client, CHAT, {"messages": [{**USER, "content": [part]}]})
            assert "messages.0.content.0" in error["param"]
            with pytest.raises(BlockingIOError):
                trap.accept()

    @pytest.mark.parametrize(
        "name", ["../../../etc/passwd", "/etc/passwd", "fake\0", "fake/..", "https://x/y", "fake "]
    )
    async def test_models_are_names_and_not_paths(
        self, client: httpx.AsyncClient, name: str
    ) -> None:
        error = await refusal(client, COMPLETIONS, {"model": name, "prompt": "x"})
        assert error["code"] == "model_not_found"
        quoted = httpx.URL(f"http://x/{name}".replace("\0", "%00")).raw_path.decode()
        response = await client.get(f"/v1/models{quoted}")
        is_list = response.url.path == "/v1/models/"  # the client resolves the dots
        assert response.status_code == (200 if is_list else 404)

    @pytest.mark.parametrize(
        "field", ["prompt_embeds", "lora_path", "lora_request", "chat_template", "documents"]
    )
    async def test_nothing_is_unpickled_or_run(self, client: httpx.AsyncClient, field: str) -> None:
        payload = base64.b64encode(pickle.dumps({"a": 1})).decode()
        error = await refusal(client, CHAT, {"messages": [USER], field: payload})
        assert error["param"] == field
        assert "not supported" in error["message"]

    @pytest.mark.parametrize(
        "path",
        [
            "/update_weights_from_disk",
            "/flush_cache",
            "/start_profile",
            "/collective_rpc",
            "/pause",
            "/slots",
            "/props",
            "/v2/repository/index",
            "/sleep",
            "/reset_prefix_cache",
            "/abort_request",
        ],
    )
    async def test_there_are_no_hidden_controls(self, client: httpx.AsyncClient, path: str) -> None:
        for method in ("GET", "POST"):
            assert (await client.request(method, path)).status_code == 404

    async def test_admin_needs_a_key_of_its_own(self, client: httpx.AsyncClient) -> None:
        assert (await client.post("/admin/drain")).status_code == 403


class TestNumbers:
    """That compiled code would take for an index, a size or a pointer."""

    @pytest.mark.parametrize("token_id", [-1, 2**31, 2**32, 2**63, 2**64, 1.5, True, "x", None])
    @pytest.mark.parametrize("field", ["prompt", "stop_token_ids"])
    async def test_token_ids(self, client: httpx.AsyncClient, field: str, token_id: object) -> None:
        await refusal(client, COMPLETIONS, {"prompt": "x", field: [token_id, 1]})
        await refusal(client, COMPLETIONS, {"prompt": "x", "logit_bias": {str(token_id): 1}})

    async def test_ids_beyond_the_vocabulary(self, client: httpx.AsyncClient) -> None:
        for body in (
            {"prompt": [100_000]},
            {"prompt": "x", "stop_token_ids": [100_000]},
            {"prompt": "x", "logit_bias": {"100000": 1}},
        ):
            assert "vocabulary" in (await refusal(client, COMPLETIONS, body))["message"]
        response = await client.post("/detokenize", json={"tokens": [100_000]})
        assert response.status_code == 400

    @pytest.mark.parametrize("prompt", [[], [[]], "", [""], [[], [1]]])
    async def test_empty_prompts(self, client: httpx.AsyncClient, prompt: object) -> None:
        body = {"model": "fake", "prompt": prompt, "max_tokens": 2}
        assert (await client.post(COMPLETIONS, json=body)).status_code in (200, 400)
        assert (await client.post(COMPLETIONS, json={**body, "prompt": "x"})).status_code == 200

    @pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "1e999", "-1e999"])
    @pytest.mark.parametrize("field", ["temperature", "top_p", "min_p", "presence_penalty", "seed"])
    async def test_numbers_that_are_none(
        self, client: httpx.AsyncClient, field: str, number: str
    ) -> None:
        body = f'{{"model": "fake", "prompt": "x", "{field}": {number}}}'
        response = await client.post(COMPLETIONS, content=body)
        assert response.status_code == 400
        assert field in response.json()["error"]["message"]

    @pytest.mark.parametrize(
        "field", ["n", "best_of", "max_tokens", "top_k", "logprobs", "priority"]
    )
    async def test_huge_numbers(self, client: httpx.AsyncClient, field: str) -> None:
        for value in (2**31, 10**18, 10**30):
            await refusal(client, COMPLETIONS, {"prompt": "x", field: value})


class TestText:
    @pytest.mark.parametrize("text", [r"\ud800", r"\udc00\ud800", r"a\udfffb"])
    async def test_half_characters(self, client: httpx.AsyncClient, text: str) -> None:
        for field in ("prompt", "stop", "user", "cache_salt", "model"):
            body = f'{{"model": "fake", "prompt": "x", "{field}": "{text}"}}'
            response = await client.post(COMPLETIONS, content=body)
            assert response.status_code == 400

    @pytest.mark.parametrize("value", ["x\r\nX-Evil: 1", "x\nERROR: all is lost", "\x1b[31m", "é"])
    async def test_request_ids_write_no_lines(self, client: httpx.AsyncClient, value: str) -> None:
        headers = {"X-Request-Id": value.encode()}
        response = await client.get("/health/live", headers=headers)  # type: ignore[arg-type]
        assert response.headers["x-request-id"].isalnum()
        assert "x-evil" not in response.headers

    async def test_a_schema_that_refers_to_itself(self, make_client: Any) -> None:
        client = await make_client()
        schema = {"$ref": "#"}
        for _ in range(3):
            await refusal(client, COMPLETIONS, {"prompt": "x", "guided_json": schema})

    @pytest.mark.parametrize(
        "pattern", ["(a+)+$", "((a{1,999}){1,999}){1,999}", "(" * 5000, "a{99999}"]
    )
    async def test_regular_expressions(self, client: httpx.AsyncClient, pattern: str) -> None:
        body = {"model": "fake", "prompt": "x", "guided_regex": pattern, "max_tokens": 4}
        assert (await client.post(COMPLETIONS, json=body)).status_code in (200, 400)


class TestConnections:
    @pytest.fixture
    async def port(self) -> AsyncIterator[int]:
        limits = ConnectionConfig(body_timeout=0.5)
        async with serve() as app, listening(app, limits=limits) as port:
            yield port

    @pytest.mark.parametrize(
        "framing",
        [
            "Content-Length: 5\r\nTransfer-Encoding: chunked",
            "Transfer-Encoding: chunked\r\nContent-Length: 5",
            "Content-Length: 5\r\nContent-Length: 6",
            "Content-Length: -5",
            "Content-Length: +5",
            "Content-Length: 5 5",
            "Content-Length: 0x5",
            "Content-Length: 18446744073709551621",
            "Transfer-Encoding: gzip, chunked\r\nContent-Length: 5",
            "Transfer-Encoding: chunked, gzip",
            "Transfer-Encoding : chunked",
            "Transfer-Encoding:\x0bchunked",
        ],
    )
    async def test_a_length_that_two_readers_read_differently(
        self, port: int, framing: str
    ) -> None:
        """What is smuggled behind it must not be taken for a request."""
        async with connect(port) as connection:
            head = f"POST {COMPLETIONS} HTTP/1.1\r\nHost: x\r\n{framing}\r\n\r\n"
            await connection.send(head.encode() + b"0\r\n\r\nGET /version HTTP/1.1\r\n\r\n")
            assert (await connection.head()).startswith(b"http/1.1 400 ")
            assert b"HTTP/1.1 200" not in await connection.rest()

    @pytest.mark.parametrize(
        "size", ["ffffffffffffffff", "10000000000000000", "-1", "0x5", " 5", ""]
    )
    async def test_sizes_of_chunks(self, port: int, size: str) -> None:
        async with connect(port) as connection:
            head = f"POST {COMPLETIONS} HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
            await connection.send(head.encode() + size.encode() + b"\r\nhello\r\n0\r\n\r\n")
            status = (await connection.head()).split()[1]
            assert status in (b"400", b"408", b"413")


class TestOtherKeys:
    """What one client has asked must not show in what another one gets."""

    async def test_the_prefix_cache_is_kept_apart(self) -> None:
        runner = FakeRunner()
        config = ServerConfig(served_model_name="fake", api_keys=tenants("one", "two"))
        async with serve(runner, config=config) as app, client_of(app) as client:

            async def cached_tokens(key: str, path: str, **fields: Any) -> int:
                body = {"model": "fake", "max_tokens": 1, **fields}
                headers = {"x-api-key": key}
                answer = (await client.post(path, json=body, headers=headers)).json()
                usage = answer["usage"]["prompt_tokens_details"]
                return int(usage["cached_tokens"])

            for path, fields in (
                (COMPLETIONS, {"prompt": "a secret of the first client's"}),
                (CHAT, {"messages": [{"role": "user", "content": "another secret of theirs"}]}),
            ):
                assert await cached_tokens("one", path, **fields) == 0
                assert await cached_tokens("one", path, **fields) > 0
                assert await cached_tokens("two", path, **fields) == 0
                assert await cached_tokens("two", path, **fields) > 0
