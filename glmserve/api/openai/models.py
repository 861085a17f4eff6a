"""GET /v1/models and /v1/models/{model_id}"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import msgspec
from msgspec import UNSET, Meta, UnsetType
from starlette.requests import Request
from starlette.responses import Response

from glmserve.api.answering.context import ServerContext
from glmserve.api.http.responses import json_response
from glmserve.api.http.state import context_of

MaxModelLen = Annotated[int, Meta(description="Tokens of the longest prompt and answer together.")]


class Model(msgspec.Struct, kw_only=True):
    """A name under which the model is served, or the name of an adapter of it."""

    id: str
    object: Literal["model"] = "model"
    created: Annotated[int, Meta(description="Unix seconds: when this server started.")]
    owned_by: str = "glmserve"
    root: Annotated[
        str,
        Meta(
            description="The first of the names that mean the same model; of an adapter, the name "
            "of its folder."
        ),
    ]
    parent: Annotated[
        str | UnsetType, Meta(description="Of an adapter alone: the model that it changes.")
    ] = UNSET
    max_model_len: MaxModelLen


class ModelList(msgspec.Struct, kw_only=True):
    """All names that requests may have as their model."""

    object: Literal["list"] = "list"
    data: list[Model]


async def list_models(request: Request) -> Response:
    """Every name that is served; the first one is the model's own. Adapters follow."""
    context = context_of(request)
    models = [_model(context, name) for name in context.config.model_names]
    adapters = await context.adapters.names()
    models += [_adapter(context, name, folder) for name, folder in adapters.items()]
    return json_response(ModelList(data=models))


async def retrieve_model(request: Request) -> Response:
    """One of them; 404 model_not_found for any other name."""
    context = context_of(request)
    name = request.path_params["model_id"]
    folder = (await context.adapters.names()).get(name)
    if folder is not None and name not in context.config.model_names:
        return json_response(_adapter(context, name, folder))
    await context.find_model(name)
    return json_response(_model(context, name))


def _adapter(context: ServerContext, name: str, folder: Path) -> Model:
    model = _model(context, name)
    model.root, model.parent = folder.name, context.config.served_model_name
    return model


def _model(context: ServerContext, name: str) -> Model:
    return Model(
        id=name,
        created=context.started,
        root=context.config.served_model_name,
        max_model_len=context.engine.info.limits.max_context,
    )
