"""Each answered request makes one record: for the counters of /metrics and for the access log."""

from __future__ import annotations

import io
import json
import threading
from typing import Any

import httpx
import pytest

from glmserve.api.http.access import NO_STATUS, UNKNOWN_ROUTE, AccessRecord
from glmserve.api.operator.access_log import AccessLog, as_json, as_text, line_of
from glmserve.config import ServerConfig
from support.fake_server import client_of, serve, tenants

BODY = {"prompt": "a secret", "max_tokens": 5}


async def records_of(*requests: tuple[str, str, dict[str, Any]]) -> list[AccessRecord]:
    """The records of some requests: method, path, arguments of the client."""
    records = list[AccessRecord]()
    config = ServerConfig(served_model_name="fake", api_keys=tenants("mine"))
    async with serve(config=config, observers=[records.append]) as app, client_of(app) as client:
        client.headers["Authorization"] = "Bearer mine"
        for method, path, arguments in requests:
            await client.request(method, path, **arguments)
    return records


async def test_what_a_record_tells() -> None:
    stream = BODY | {"stream": True, "n": 2}
    whole, streamed = await records_of(
        ("POST", "/v1/completions", {"json": BODY, "headers": {"X-Request-Id": "my-id"}}),
        ("POST", "/v1/completions/", {"json": stream}),
    )
    assert (whole.method, whole.route, whole.status) == ("POST", "/v1/completions", 200)
    assert (whole.request_id, whole.tenant) == ("my-id", "holder of mine")
    assert streamed.route == "/v1/completions"
    line = line_of(whole)
    assert (line.prompt_tokens, line.cached_tokens, line.output_tokens) == (8, 0, 5)
    assert line.finish_reasons == "length"
    assert line_of(streamed).finish_reasons == "length,length"
    assert isinstance(line.queue_seconds, float)
    assert isinstance(line.first_token_seconds, float)
    assert 0 <= line.queue_seconds <= line.first_token_seconds <= line.seconds


@pytest.mark.parametrize(
    ("path", "headers", "route", "status"),
    [
        ("/v1/models/no/such", {}, "/v1/models/{model_id:path}", 404),
        ("/v1/responses/resp_x", {}, "/v1/responses/{response_id}", 404),
        ("/v1/models", {"Authorization": "Bearer wrong"}, "/v1/models", 401),
        ("/v1/secret/path", {}, UNKNOWN_ROUTE, 404),
        ("/v1/chat/completions", {}, "/v1/chat/completions", 405),
        ("/health/live", {}, "/health/live", 200),
    ],
)
async def test_routes(path: str, headers: dict[str, str], route: str, status: int) -> None:
    (record,) = await records_of(("GET", path, {"headers": headers}))
    assert (record.route, record.status) == (route, status)
    assert record.generation is None


async def test_requests_are_counted() -> None:
    async with serve() as app, client_of(app) as client:
        for _ in range(2):
            await client.post("/v1/completions", json=BODY)
        await client.request("INVENTED", "/v1/completions")
        await client.get("/nowhere")
        text = (await client.get("/metrics")).text
    series = 'glmserve_http_requests_total{method="%s",model_name="fake",route="%s",status="%s"} %s'
    for labels in (
        ("POST", "/v1/completions", "200", "2.0"),
        ("other", "/v1/completions", "405", "1.0"),
        ("GET", "other", "404", "1.0"),
    ):
        assert series % labels in text


async def test_times_and_lengths_are_measured(client: httpx.AsyncClient) -> None:
    await client.post("/v1/completions", json=BODY)
    text = (await client.get("/metrics")).text
    for name in (
        *("request_queue_seconds", "request_prefill_seconds", "request_decode_seconds"),
        *("time_per_output_token_seconds", "request_prompt_tokens", "request_output_tokens"),
    ):
        assert f'glmserve_{name}_count{{model_name="fake"}} 1.0' in text
    assert 'glmserve_request_prompt_tokens_bucket{le="8.0",model_name="fake"} 1.0' in text
    assert 'glmserve_request_prompt_tokens_bucket{le="4.0",model_name="fake"} 0.0' in text
    assert 'glmserve_cache_info{block_size="' in text
    assert 'glmserve_build_info{device="' in text


def record(**fields: Any) -> AccessRecord:
    return AccessRecord("GET", 1_700_000_000.25, 0.0, **fields)


def test_a_line_as_json_and_as_text() -> None:
    line = line_of(
        record(route="/health", status=200, seconds=0.0123456789, request_id="a", tenant="team")
    )
    assert json.loads(as_json(line)) == {
        "time": "2023-11-14T22:13:20.250Z",
        "id": "a",
        "method": "GET",
        "route": "/health",
        "status": 200,
        "seconds": 0.012346,
        "key": "team",
    }
    text = "2023-11-14T22:13:20.250Z GET /health 200 id=a seconds=0.012346 key=team"
    assert as_text(line) == text


@pytest.mark.parametrize("name", ["key 1", 'a" status=0', "a=b", "two\nlines"])
def test_a_name_of_several_words_is_one_field_of_the_text(name: str) -> None:
    """A key without a name of its own is called `key 1`."""
    text = as_text(line_of(record(route="/health", tenant=name)))
    before, _, value = text.partition(" key=")
    assert before.endswith("seconds=0.0")
    assert "\n" not in value
    assert json.loads(value) == name


def test_what_was_never_answered_has_no_status() -> None:
    assert line_of(record()).status == NO_STATUS


def test_lines_are_written_in_order() -> None:
    output = io.StringIO()
    log = AccessLog(output, "json")
    for number in range(100):
        log(record(status=number))
    log.close()
    assert [json.loads(x)["status"] for x in output.getvalue().splitlines()] == list(range(100))


class Blocked(io.StringIO):
    """An output that nothing reads until it is released."""

    def __init__(self) -> None:
        super().__init__()
        self.released = threading.Event()

    def write(self, text: str) -> int:
        self.released.wait()
        return super().write(text)


def test_an_output_that_nothing_reads_costs_bounded_memory(
    caplog: pytest.LogCaptureFixture,
) -> None:
    output = Blocked()
    log = AccessLog(output, "text")
    for _ in range(10_100):
        log(record())
    assert [r.message for r in caplog.records] == [
        "lines of the access log are dropped: nothing reads them"
    ]
    output.released.set()
    log.close()
    assert 10_000 <= output.getvalue().count("\n") <= 10_001


def test_an_output_that_is_closed_ends_the_log_and_nothing_else() -> None:
    output = io.StringIO()
    output.close()
    log = AccessLog(output, "text")
    log(record())
    log.close()
