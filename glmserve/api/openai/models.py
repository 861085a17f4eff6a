"""GET /v1/models and /v1/models/{model_id}"""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta
from starlette.requests import Request
from starlette.responses import Response

from glmserve.api.answering.context import ServerContext
from glmserve.api.http.responses import json_response
from glmserve.api.http.state import context_of

MaxModelLen = Annotated[int, Meta(description="Tokens of the longest prompt and answer together.")]


class Model(msgspec.Struct, kw_only=True):
    """A name under which the model is served."""

    id: str
    object: Literal["model"] = "model"
    created: Annotated[int, Meta(description="Unix seconds: when this server started.")]
    owned_by: str = "glmserve"
    root: Annotated[str, Meta(description="The first of the names that mean the same model.")]
    max_model_len: MaxModelLen


class ModelList(msgspec.Struct, kw_only=True):
    """All names under which the model is served."""

    object: Literal["list"] = "list"
    data: list[Model]


async def list_models(request: Request) -> Response:
    """Every name that is served; the first one is the model's own."""
    context = context_of(request)
    models = [_model(context, name) for name in context.config.model_names]
    return json_response(ModelList(data=models))


async def retrieve_model(request: Request) -> Response:
    """One of them; 404 model_not_found for any other name."""
    context = context_of(request)
    name = request.path_params["model_id"]
    context.check_model(name)
    return json_response(_model(context, name))


def _model(context: ServerContext, name: str) -> Model:
    return Model(
        id=name,
        created=context.started,
        root=context.config.served_model_name,
        max_model_len=context.engine.info.limits.max_context,
    )
