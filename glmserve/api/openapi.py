"""GET /openapi.json and /docs: made from the very models that check the requests."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response

from glmserve import __version__
from glmserve.api.protocol import ChatCompletionRequest, CompletionRequest

_DOCS_PAGE = Path(__file__).parents[1] / "web" / "docs.html"
_REF = "#/components/schemas/{model}"
_ERROR: dict[str, Any] = {
    "type": "object",
    "required": ["error"],
    "properties": {
        "error": {
            "type": "object",
            "required": ["message", "type", "param", "code"],
            "properties": {
                "message": {"type": "string"},
                "type": {"type": "string"},
                "param": {"type": ["string", "null"]},
                "code": {"type": ["string", "null"]},
            },
        }
    },
}


async def openapi(request: Request) -> Response:
    """The OpenAPI 3.1 description of this server."""
    return JSONResponse(openapi_document())


async def docs(request: Request) -> Response:
    """A page that shows /openapi.json; it needs nothing from the internet."""
    return FileResponse(_DOCS_PAGE, media_type="text/html")


@cache
def openapi_document() -> dict[str, Any]:
    """Build the description; on first use, as it takes longer than answering a request."""
    bodies: list[type[BaseModel]] = [ChatCompletionRequest, CompletionRequest]
    _, definitions = models_json_schema([(b, "validation") for b in bodies], ref_template=_REF)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "glmserve",
            "version": __version__,
            "description": "OpenAI-compatible server for the ChatGLM family.",
        },
        "paths": {
            "/v1/chat/completions": _generation(
                ChatCompletionRequest, "Answer the last message of a conversation."
            ),
            "/v1/completions": _generation(CompletionRequest, "Continue a prompt."),
            "/v1/models": _get("The model that is served.", "application/json", {"503": "loading"}),
            "/health": _get("The same as /health/ready.", "application/json", {"503": "not ready"}),
            "/health/live": _get("Whether the process answers.", "application/json", {}),
            "/health/ready": _get(
                "Whether the model generates.", "application/json", {"503": "not ready"}
            ),
            "/metrics": _get("Statistics for Prometheus.", "text/plain", {}),
            "/openapi.json": _get("This document.", "application/json", {}),
            "/docs": _get("This document as a page.", "text/html", {}),
        },
        "components": {"schemas": {**definitions["$defs"], "Error": _ERROR}},
    }


def _generation(body: type[BaseModel], summary: str) -> dict[str, Any]:
    failures = {
        "400": "the request cannot be honoured; the message names the field",
        "401": "missing or wrong API key",
        "404": "no such model",
        "413": "the body is too large",
        "429": "the queue is full",
        "503": "the model is loading",
    }
    answer = {
        "description": "The completion, or its chunks as server-sent events with stream: true.",
        "content": {"application/json": {}, "text/event-stream": {}},
    }
    schema = {"$ref": _REF.format(model=body.__name__)}
    return {
        "post": {
            "summary": summary,
            "requestBody": {
                "required": True,
                "content": {"application/json": {"schema": schema}},
            },
            "responses": {"200": answer, **_failures(failures)},
        }
    }


def _get(summary: str, media_type: str, failures: dict[str, str]) -> dict[str, Any]:
    ok = {"200": {"description": summary, "content": {media_type: {}}}}
    return {"get": {"summary": summary, "responses": {**ok, **_failures(failures)}}}


def _failures(failures: dict[str, str]) -> dict[str, Any]:
    content = {"application/json": {"schema": {"$ref": _REF.format(model="Error")}}}
    return {status: {"description": text, "content": content} for status, text in failures.items()}
