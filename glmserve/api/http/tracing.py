"""A span of OpenTelemetry for each HTTP request. Imported only if the operator asks for traces.

Names of attributes: OpenTelemetry's semantic conventions for HTTP and for generative AI
(https://opentelemetry.io/docs/specs/semconv/gen-ai/).
"""

from __future__ import annotations

import time
from collections.abc import Iterator

from opentelemetry import trace
from opentelemetry.trace import Span, SpanKind, Status, StatusCode, TracerProvider
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from glmserve import __version__
from glmserve.api.answering.generation import Generation
from glmserve.api.http.access import AccessRecord, record_of

_PROPAGATOR = TraceContextTextMapPropagator()
_CONTEXT_HEADERS = (b"traceparent", b"tracestate")
_OPERATIONS = {
    "/v1/completions": "text_completion",
    "/v1/embeddings": "embeddings",
}
"""gen_ai.operation.name by route; all other generated answers are `chat`."""


class TracingMiddleware:
    """Makes a span of each request: a child of the client's `traceparent`, if it sends one. The
    response has the span's own `traceparent`. Nothing of the request's or answer's content is kept.

    Args:
        provider: samples and exports the spans.
        model_name: of the model that is served; a request of an adapter has that one's.
    """

    def __init__(self, app: ASGIApp, provider: TracerProvider, model_name: str) -> None:
        self._app = app
        self._tracer = provider.get_tracer("glmserve", __version__)
        self._model_name = model_name

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        sent = {
            k.decode(): v.decode("latin-1") for k, v in scope["headers"] if k in _CONTEXT_HEADERS
        }
        span = self._tracer.start_span(scope["method"], _PROPAGATOR.extract(sent), SpanKind.SERVER)
        carrier: dict[str, str] = {}
        _PROPAGATOR.inject(carrier, trace.set_span_in_context(span))
        added = [(name.encode(), value.encode()) for name, value in carrier.items()]

        async def send_with_context(message: Message) -> None:
            if message["type"] == "http.response.start":
                message = {**message, "headers": [*message.get("headers", ()), *added]}
            await send(message)

        try:
            await self._app(scope, receive, send_with_context)
        finally:
            record = record_of(scope)
            if record is not None and span.is_recording():
                _describe(span, record, self._model_name)
            span.end()


def _describe(span: Span, record: AccessRecord, model_name: str) -> None:
    span.update_name(f"{record.method} {record.route}")
    span.set_attributes(
        {
            "http.request.method": record.method,
            "http.route": record.route,
            "http.response.status_code": record.status,
            "glmserve.request_id": record.request_id,
        }
    )
    if record.tenant:
        span.set_attribute("glmserve.key", record.tenant)
    if record.status >= 500:
        span.set_status(Status(StatusCode.ERROR))
    if record.generation is not None:
        operation = _OPERATIONS.get(record.route, "chat")
        if record.generation.adapter is not None:
            model_name = record.generation.adapter.name
        span.update_name(f"{operation} {model_name}")
        _describe_generation(span, record.generation, operation, model_name)


def _describe_generation(span: Span, generation: Generation, operation: str, model: str) -> None:
    usage = generation.usage()
    span.set_attributes(
        {
            "gen_ai.operation.name": operation,
            "gen_ai.provider.name": "glmserve",
            "gen_ai.request.model": model,
            "gen_ai.response.model": model,
            "gen_ai.response.finish_reasons": [c.finish_reason for c in generation.choices],
            "gen_ai.usage.input_tokens": usage.prompt_tokens,
            "gen_ai.usage.output_tokens": usage.completion_tokens,
            "gen_ai.usage.cache_read.input_tokens": usage.prompt_tokens_details.cached_tokens,
        }
    )
    if generation.has_failed:
        span.set_status(Status(StatusCode.ERROR))
    to_unix = time.time_ns() - time.perf_counter_ns()
    for name, reading, attributes in sorted(_events(generation), key=lambda event: event[1]):
        span.add_event(name, attributes, round(reading * 1e9) + to_unix)


def _events(generation: Generation) -> Iterator[tuple[str, float, dict[str, str | int]]]:
    """Names, readings of time.perf_counter and attributes of what happened to the choices."""
    for number, choice in enumerate(generation.choices):
        stream, attributes = choice.tokens, {"glmserve.choice": number}
        yield "glmserve.queued", stream.arrival, {**attributes}
        if stream.begun is not None:
            yield "glmserve.begun", stream.begun, {**attributes}
        for reading in stream.resumed:
            yield "glmserve.resumed", reading, {**attributes}
        for reading in stream.worker_losses:
            yield "glmserve.worker_lost", reading, {**attributes}
        if stream.first_token is not None:
            yield "glmserve.first_token", stream.first_token, {**attributes}
