"""What is told about answered requests besides the metrics: access log, OpenTelemetry's spans."""

from __future__ import annotations

import logging
import os
import sys
import time
from typing import TYPE_CHECKING

from starlette.middleware import Middleware

from glmserve import __version__
from glmserve.api.http.access import AccessObserver
from glmserve.api.operator.access_log import AccessLog
from glmserve.config import ServerConfig
from glmserve.errors import OptionError

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import TracerProvider


_SILENCE = 300.0
"""Seconds between two lines of one of OpenTelemetry's loggers."""


class SeldomTelemetry(logging.Filter):
    """Lets a line of each of OpenTelemetry's loggers pass, and then none for five minutes. They log
    several for each batch that a collector does not take."""

    def __init__(self) -> None:
        super().__init__()
        self._next: dict[str, float] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        if not record.name.startswith("opentelemetry"):
            return True
        now = time.monotonic()
        if now < self._next.get(record.name, 0.0):
            return False
        self._next[record.name] = now + _SILENCE
        return True


class Observation:
    """The observers that the operator asked for. Must be closed.

    Raises:
        OptionError: packages are missing.
    """

    def __init__(self, config: ServerConfig) -> None:
        self._provider: TracerProvider | None = None
        self.layers: list[Middleware] = []
        """Of the application, around all others."""
        if config.otlp_traces_endpoint is not None:
            self._provider = trace_provider(config.otlp_traces_endpoint)
            from glmserve.api.http.tracing import TracingMiddleware

            name = config.served_model_name
            self.layers = [Middleware(TracingMiddleware, provider=self._provider, model_name=name)]
        self._log = AccessLog(sys.stdout, config.access_log) if config.access_log else None
        self.observers: list[AccessObserver] = [self._log] if self._log is not None else []

    def close(self) -> None:
        """Send what waits; the exporter and the log limit how long that takes."""
        if self._log is not None:
            self._log.close()
        if self._provider is not None:
            self._provider.shutdown()


def trace_provider(endpoint: str) -> TracerProvider:
    """Exports spans in batches, on a thread. The variables OTEL_* of the SDK are honoured.

    Args:
        endpoint: URL of a collector that takes OTLP over HTTP, such as
            http://localhost:4318/v1/traces.

    Raises:
        OptionError: the packages are missing, or a variable has a value that the SDK refuses.
    """
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
    except ModuleNotFoundError as error:
        raise OptionError(
            f"--otlp-traces-endpoint needs the package {error.name}; pip install 'glmserve[otel]'"
        ) from None
    name = os.environ.get("OTEL_SERVICE_NAME", "glmserve")
    resource = Resource.create({"service.name": name, "service.version": __version__})
    try:
        provider = TracerProvider(resource=resource)
        provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(endpoint=endpoint)))
    except ValueError as error:
        raise OptionError(f"OpenTelemetry refuses a variable OTEL_*: {error}") from None
    for handler in logging.getLogger().handlers:
        handler.addFilter(SeldomTelemetry())
    return provider
