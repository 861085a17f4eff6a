"""The ASGI application: routes and nothing else."""

from __future__ import annotations

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import ClientDisconnect
from starlette.routing import Route

from glmserve.api.auth import ApiKeyMiddleware
from glmserve.api.chat import chat_completions
from glmserve.api.completions import completions
from glmserve.api.context import ServerContext
from glmserve.api.errors import (
    answer_client_gone,
    answer_glmserve_error,
    answer_http_error,
    answer_unexpected_error,
)
from glmserve.api.health import live, metrics, ready
from glmserve.api.models import list_models
from glmserve.api.openapi import docs, openapi
from glmserve.errors import GlmserveError


def create_app(context: ServerContext) -> Starlette:
    """The application that serves this context."""
    api_key = context.config.api_key
    app = Starlette(
        routes=[
            Route("/v1/chat/completions", chat_completions, methods=["POST"]),
            Route("/v1/completions", completions, methods=["POST"]),
            Route("/v1/models", list_models),
            Route("/health", ready),
            Route("/health/live", live),
            Route("/health/ready", ready),
            Route("/metrics", metrics),
            Route("/openapi.json", openapi),
            Route("/docs", docs),
        ],
        middleware=[Middleware(ApiKeyMiddleware, api_key=api_key)] if api_key else [],
        exception_handlers={
            GlmserveError: answer_glmserve_error,
            HTTPException: answer_http_error,
            ClientDisconnect: answer_client_gone,
            Exception: answer_unexpected_error,
        },
    )
    app.state.context = context
    return app
