"""GET /openapi.json, made from the types that check requests and write answers."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from types import GenericAlias
from typing import Any

import msgspec
from pydantic.json_schema import models_json_schema
from starlette.requests import Request
from starlette.responses import Response

from glmserve import __version__
from glmserve.api.http.request_id import REQUEST_ID_HEADER
from glmserve.api.http.responses import json_response
from glmserve.api.http.state import context_of
from glmserve.api.operator.operations import OPERATIONS, Body, Operation

_REF = "#/components/schemas/{name}"

_GROUPS = {
    "/v1/messages": "Anthropic's API",
    "/v1/load_lora": "Operation",
    "/v1/unload_lora": "Operation",
    "/v1/": "OpenAI's API",
    "/invocations": "OpenAI's API",
    "/tokenize": "Tokens",
    "/detokenize": "Tokens",
    "/sampling_defaults": "OpenAI's API",
    "/": "Operation",
}
"""Headings by the beginnings of paths; the first one that fits counts."""

_MEANING = {
    400: "The request cannot be honoured; the message says what to change, param where.",
    401: "The API key is missing or wrong.",
    403: "This server has no admin key, or keeps no files and batches.",
    404: "There is no such model, response, file or batch.",
    413: "The body is too large.",
    415: "The body is compressed.",
    429: "The queue is full; the server may be set to another status for this.",
    500: "The server has failed.",
    503: "The model is loading, or the server takes no more requests.",
    507: "The disk does not take what is to be stored.",
}


async def openapi(request: Request) -> Response:
    """The OpenAPI 3.1 description of this server."""
    root_path = context_of(request).config.root_path
    servers = {"servers": [{"url": root_path}]} if root_path else {}
    return json_response(openapi_document() | servers)


@cache
def openapi_document() -> dict[str, Any]:
    """Build the description; on first use, as it takes longer than answering a request."""
    paths: dict[str, Any] = {}
    for operation in OPERATIONS:
        paths.setdefault(operation.path, {})[operation.method] = _operation(operation)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "glmserve",
            "version": __version__,
            "description": "OpenAI-compatible server for the ChatGLM family.",
        },
        "security": [{}, {"bearer": []}, {"apiKey": []}],
        "paths": paths,
        "components": {
            "schemas": _schemas(),
            "headers": {
                REQUEST_ID_HEADER: {
                    "description": "The request's own, or a new one where it brought none.",
                    "schema": {"type": "string"},
                }
            },
            "securitySchemes": {
                "bearer": {"type": "http", "scheme": "bearer"},
                "apiKey": {"type": "apiKey", "in": "header", "name": "x-api-key"},
            },
        },
    }


def _schemas() -> dict[str, Any]:
    """Every named type: pydantic's of the requests, msgspec's of the responses."""
    requests = [kind for o in OPERATIONS if o.request for kind in _kinds(o.request)]
    bodies = [b for o in OPERATIONS for b in (*o.responses.values(), o.failure)]
    kinds = [k for body in bodies for k in _kinds(body)]
    _, read = models_json_schema(
        [(request, "validation") for request in requests],
        ref_template=_REF.format(name="{model}"),
    )
    _, written = msgspec.json.schema_components(
        [kind for kind in kinds if isinstance(kind, type)], ref_template=_REF
    )
    return {**read["$defs"], **written}


def _operation(operation: Operation) -> dict[str, Any]:
    failure = {"application/json": operation.failure}
    described: dict[str, Any] = {
        "operationId": operation.name,
        "summary": operation.summary,
        "tags": [_group(operation.path)],
        "responses": {
            "200": _response("The answer.", operation.responses),
            **{str(s): _response(_MEANING[s], failure) for s in operation.failures},
        },
    }
    if operation.request:
        content = _content({"application/json": operation.request})
        described["requestBody"] = {"required": True, "content": content}
    if operation.parameters:
        described["parameters"] = [
            {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}
            for name in operation.parameters
        ]
    if operation.is_open:
        described["security"] = []
    return described


def _group(path: str) -> str:
    """The heading under which a reference lists the route."""
    return next(name for beginning, name in _GROUPS.items() if path.startswith(beginning))


def _response(description: str, bodies: Mapping[str, Body]) -> dict[str, Any]:
    headers = {REQUEST_ID_HEADER: {"$ref": f"#/components/headers/{REQUEST_ID_HEADER}"}}
    return {"description": description, "headers": headers, "content": _content(bodies)}


def _content(bodies: Mapping[str, Body]) -> dict[str, Any]:
    return {media_type: {"schema": _schema(body)} for media_type, body in bodies.items()}


def _schema(body: Body) -> dict[str, Any]:
    if isinstance(body, str):
        return {"type": body}
    if isinstance(body, tuple):
        return {"anyOf": [_schema(kind) for kind in body]}
    if isinstance(body, GenericAlias):
        return {"type": "array", "items": _schema(*_kinds(body))}
    return {"$ref": _REF.format(name=body.__name__)}


def _kinds(body: Body) -> tuple[Any, ...]:
    """The types that a body consists of."""
    if isinstance(body, GenericAlias):
        return body.__args__
    return body if isinstance(body, tuple) else (body,)
