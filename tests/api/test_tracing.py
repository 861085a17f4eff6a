"""Spans of OpenTelemetry, as a collector gets them."""

from __future__ import annotations

import logging
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from threading import Thread
from typing import Any, ClassVar

import httpx
import pytest
from starlette.middleware import Middleware

from glmserve.cli.observation import SeldomTelemetry, trace_provider
from glmserve.errors import OptionError
from support.fake_server import client_of, serve
from support.fakes import FakeRunner

pytest.importorskip("opentelemetry.sdk", reason="needs the otel extra")

from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import StatusCode

from glmserve.api.http.tracing import TracingMiddleware

BODY = {"prompt": "a secret", "max_tokens": 5}
TRACE, PARENT = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"


@asynccontextmanager
async def traced(**options: Any) -> AsyncIterator[tuple[httpx.AsyncClient, InMemorySpanExporter]]:
    """A client of a traced server, and the spans that have ended."""
    spans, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(spans))
    layer = Middleware(TracingMiddleware, provider=provider, model_name="fake")
    async with serve(outermost=[layer], **options) as app, client_of(app) as client:
        yield client, spans


async def test_a_span_of_a_generated_answer() -> None:
    async with traced() as (client, spans):
        headers = {"traceparent": f"00-{TRACE}-{PARENT}-01", "x-request-id": "mine"}
        response = await client.post("/v1/completions", json=BODY, headers=headers)
        (span,) = spans.get_finished_spans()
    assert span.name == "text_completion fake"
    assert f"{span.context.trace_id:032x}" == TRACE
    assert span.parent is not None
    assert f"{span.parent.span_id:016x}" == PARENT
    assert response.headers["traceparent"] == f"00-{TRACE}-{span.context.span_id:016x}-01"
    assert span.attributes is not None
    assert dict(span.attributes) == {
        "http.request.method": "POST",
        "http.route": "/v1/completions",
        "http.response.status_code": 200,
        "glmserve.request_id": "mine",
        "gen_ai.operation.name": "text_completion",
        "gen_ai.provider.name": "glmserve",
        "gen_ai.request.model": "fake",
        "gen_ai.response.model": "fake",
        "gen_ai.response.finish_reasons": ("length",),
        "gen_ai.usage.input_tokens": 8,
        "gen_ai.usage.output_tokens": 5,
        "gen_ai.usage.cache_read.input_tokens": 0,
    }
    names = [event.name for event in span.events]
    assert names == ["glmserve.queued", "glmserve.begun", "glmserve.first_token"]
    times = [event.timestamp for event in span.events]
    assert span.start_time is not None
    assert span.end_time is not None
    slack = 10**7  # the two clocks are read one after the other
    assert span.start_time - slack <= times[0] <= times[1] <= times[2] <= span.end_time + slack


async def test_without_a_parent_each_request_is_a_trace_of_its_own() -> None:
    async with traced() as (client, spans):
        await client.get("/v1/models")
        await client.get("/secret")
        found = spans.get_finished_spans()
    assert [span.name for span in found] == ["GET /v1/models", "GET other"]
    assert len({span.context.trace_id for span in found}) == 2
    assert "secret" not in str([span.to_json() for span in found])


async def test_a_span_of_a_stream_ends_with_it() -> None:
    async with traced() as (client, spans):
        body = BODY | {"stream": True, "n": 2}
        async with client.stream("POST", "/v1/completions", json=body) as response:
            await response.aread()
        (span,) = spans.get_finished_spans()
    assert span.attributes is not None
    assert span.attributes["gen_ai.response.finish_reasons"] == ("length", "length")
    begun = [e.attributes for e in span.events if e.name == "glmserve.first_token"]
    assert sorted(dict(a or {})["glmserve.choice"] for a in begun) == [0, 1]


async def test_a_failure_is_an_error() -> None:
    runner = FakeRunner()
    async with traced(runner=runner) as (client, spans):
        runner.fail_at_step = 2
        body = {"prompt": "x", "max_tokens": 50}
        assert (await client.post("/v1/completions", json=body)).status_code == 500
        (span,) = spans.get_finished_spans()
    assert span.status.status_code is StatusCode.ERROR


class Collector(BaseHTTPRequestHandler):
    """Takes OTLP over HTTP."""

    bodies: ClassVar[list[bytes]] = []

    def do_POST(self) -> None:
        self.bodies.append(self.rfile.read(int(self.headers["content-length"])))
        self.send_response(200)
        self.end_headers()

    def log_message(self, format: str, *arguments: object) -> None:
        """Be silent."""


@pytest.fixture
def collector() -> Iterator[str]:
    Collector.bodies.clear()
    with HTTPServer(("127.0.0.1", 0), Collector) as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/v1/traces"
        server.shutdown()
        thread.join()


def test_spans_reach_a_collector(collector: str) -> None:
    from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

    provider = trace_provider(collector)
    provider.get_tracer("test").start_span("a span").end()
    provider.shutdown()
    (body,) = Collector.bodies
    request = ExportTraceServiceRequest()
    request.ParseFromString(body)
    (resource,) = request.resource_spans
    attributes = {a.key: a.value.string_value for a in resource.resource.attributes}
    assert attributes["service.name"] == "glmserve"
    assert resource.scope_spans[0].spans[0].name == "a span"


def test_a_collector_that_is_down_fills_no_log() -> None:
    lines, seldom = list[str](), SeldomTelemetry()
    for _ in range(100):
        for name in ("opentelemetry.exporter", "opentelemetry.sdk", "glmserve.engine"):
            record = logging.LogRecord(name, logging.ERROR, "", 0, "it is down", None, None)
            if seldom.filter(record):
                lines.append(name)
    assert lines.count("opentelemetry.exporter") == lines.count("opentelemetry.sdk") == 1
    assert lines.count("glmserve.engine") == 100


def test_nothing_is_imported_when_it_is_off() -> None:
    code = (
        "import sys; import glmserve.cli.server, glmserve.api; "
        "sys.exit(any(name.startswith('opentelemetry') for name in sys.modules))"
    )
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_missing_packages_are_named() -> None:
    code = (
        "import sys; sys.modules['opentelemetry'] = None; "
        "from glmserve.cli.main import main; "
        "main(['serve', '--port', '0', '--otlp-traces-endpoint', 'http://localhost:1/v1/traces'])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 2
    assert "pip install 'glmserve[otel]'" in done.stderr


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("OTEL_BSP_SCHEDULE_DELAY", "-1"),
        ("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "99999"),
        ("OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT", "many"),
    ],
)
def test_a_variable_that_the_sdk_refuses(
    monkeypatch: pytest.MonkeyPatch, variable: str, value: str
) -> None:
    monkeypatch.setenv(variable, value)
    with pytest.raises(OptionError, match=r"refuses a variable OTEL_\*: .+"):
        trace_provider("http://127.0.0.1:1/v1/traces")
