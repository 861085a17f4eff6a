"""Counts the answered HTTP requests."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter

from glmserve.api.http.access import AccessRecord

_METHODS = frozenset(("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"))
_OTHER = "other"
"""The label of all other methods: a client may write any word, and each would be a new series."""


class HttpMetrics:
    """An observer of answered requests.

    Args:
        registry: that /metrics shows.
    """

    def __init__(self, registry: CollectorRegistry) -> None:
        self._requests = Counter(
            "glmserve_http_requests",
            "Answered HTTP requests; status 0: the client left before the answer began.",
            labelnames=["method", "route", "status"],
            registry=registry,
        )

    def __call__(self, record: AccessRecord) -> None:
        """Count a request."""
        method = record.method if record.method in _METHODS else _OTHER
        self._requests.labels(method, record.route, str(record.status)).inc()
