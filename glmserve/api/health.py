"""GET /health/live, /health/ready, /metrics"""

from __future__ import annotations

from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from glmserve.api.context import context_of
from glmserve.api.errors import RETRY_AFTER
from glmserve.engine import EngineState


async def live(request: Request) -> Response:
    """200 as long as this process answers at all."""
    return JSONResponse({"status": "live"})


async def ready(request: Request) -> Response:
    """200 once a real token came out of the model and as long as it can make more; else 503."""
    engine = context_of(request).engine
    body: dict[str, object] = {"status": engine.state.value}
    if engine.state is EngineState.READY:
        return JSONResponse(body)
    if engine.state is EngineState.LOADING:
        done, total = engine.load_progress
        body["progress"] = round(done / total, 3) if total else 0.0
    return JSONResponse(body, 503, {"Retry-After": str(RETRY_AFTER)})


async def metrics(request: Request) -> Response:
    """The engine's statistics in Prometheus' text format."""
    registry = context_of(request).engine.stats.registry
    return Response(generate_latest(registry), media_type=CONTENT_TYPE_LATEST)
