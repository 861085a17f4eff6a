"""GET /v1/models"""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from glmserve.api.context import context_of


async def list_models(request: Request) -> Response:
    """The one model that is served."""
    context = context_of(request)
    model = {
        "id": context.config.served_model_name,
        "object": "model",
        "created": context.started,
        "owned_by": "glmserve",
        "max_model_len": context.engine.info.limits.max_context,
    }
    return JSONResponse({"object": "list", "data": [model]})
