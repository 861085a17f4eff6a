"""GET /health/live, /health/started, /health/ready, /metrics, /version"""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import UNSET, Meta, UnsetType
from prometheus_client.exposition import choose_encoder
from starlette.requests import Request
from starlette.responses import Response

from glmserve import __version__
from glmserve.api.http.accept import accepted
from glmserve.api.http.responses import json_response
from glmserve.api.http.state import context_of
from glmserve.api.operator.metrics_view import MetricsView
from glmserve.engine import EngineState
from glmserve.errors import NotReadyError

_VERSIONS: dict[str, tuple[str | None, ...]] = {
    "application/openmetrics-text": (None, "1.0.0"),
    "text/plain": (None, "0.0.4", "1.0.0"),
    "text/*": (None,),
    "*/*": (None,),
}
"""Versions of the formats of /metrics. What names no version gets the text format 0.0.4."""

Share = Annotated[float, Meta(ge=0, le=1, description="Of the weights: how much is loaded.")]


class Health(msgspec.Struct):
    """The state of the server (`live`, `started`) or of its engine: `loading`, `ready`,
    `restarting`, `dead`, or `draining` if it is ready but accepts no more requests."""

    status: str
    reason: str | UnsetType = UNSET
    phase: str | UnsetType = UNSET
    progress: Share | UnsetType = UNSET


class Version(msgspec.Struct):
    """The version of glmserve."""

    version: str


async def live(request: Request) -> Response:
    """200 as long as this process answers at all."""
    return json_response(Health("live"))


async def started(request: Request) -> Response:
    """200 once a real token has come out of the model, however the worker is later; 503 before."""
    engine = context_of(request).engine
    if engine.state is EngineState.LOADING:
        return await ready(request)
    return json_response(Health("started"))


async def ready(request: Request) -> Response:
    """200 after a real token came out of the model and as long as it can make more; else 503."""
    engine = context_of(request).engine
    health = Health(engine.state.value)
    if engine.state is EngineState.READY and engine.is_draining:
        health.status = "draining"
    elif engine.state is EngineState.READY:
        return json_response(health)
    if engine.missing_machine:
        health.reason = engine.missing_machine
    elif engine.state is EngineState.RESTARTING:
        health.reason = f"the worker {engine.loss}"
    if engine.state in (EngineState.LOADING, EngineState.RESTARTING):
        phase, done, total = engine.load_progress
        health.phase = phase
        health.progress = round(done / total, 3) if total else 0.0
    return json_response(health, 503, {"Retry-After": f"{NotReadyError.retry_after:.0f}"})


async def metrics(request: Request) -> Response:
    """The engine's statistics in Prometheus' text format 0.0.4, or in OpenMetrics if the Accept
    header asks for it."""
    encode, media_type = choose_encoder(_wanted_format(request.headers.get("accept", "")))
    view: MetricsView = request.app.state.metrics
    return Response(encode(view), media_type=media_type)


def _wanted_format(header: str) -> str:
    """The most wanted one of the formats that there are, as a value of Accept by itself."""
    for wanted, parameters in accepted(header):
        number = parameters.get("version")
        if number in _VERSIONS.get(wanted, ()):
            escaping = parameters.get("escaping")
            named = {"version": number, "escaping": escaping}
            return "".join((wanted, *(f";{key}={text}" for key, text in named.items() if text)))
    return ""


async def version(request: Request) -> Response:
    """The version of glmserve."""
    return json_response(Version(__version__))
