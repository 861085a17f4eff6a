"""The ASGI application: routes, and what stands in front of them."""

from __future__ import annotations

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import ClientDisconnect
from starlette.routing import Route

from glmserve.api.admin import start_draining, stop_draining
from glmserve.api.anthropic import AnthropicErrorsMiddleware, count_tokens, create_message
from glmserve.api.auth import ApiKeyMiddleware
from glmserve.api.body_memory import BodyMemory
from glmserve.api.cached import CACHE_HEADER
from glmserve.api.chat import chat_completions
from glmserve.api.completions import completions
from glmserve.api.context import ServerContext
from glmserve.api.cors import CorsMiddleware
from glmserve.api.embeddings import embeddings
from glmserve.api.errors import (
    UnexpectedErrorMiddleware,
    answer_client_gone,
    answer_glmserve_error,
    answer_http_error,
)
from glmserve.api.health import live, metrics, ready, version
from glmserve.api.journaling.through import REPLAYED
from glmserve.api.models import list_models, retrieve_model
from glmserve.api.openai_responses import (
    ResponseStore,
    create_response,
    delete_response,
    list_input_items,
    retrieve_response,
)
from glmserve.api.openapi import docs, openapi
from glmserve.api.quotas import QuotaHeadersMiddleware
from glmserve.api.request_id import REQUEST_ID_HEADER, RequestIdMiddleware
from glmserve.api.tokenizer_info import tokenizer_info
from glmserve.api.tokens import detokenize, tokenize
from glmserve.api.unread_body import UnreadBodyMiddleware
from glmserve.errors import GlmserveError

_MOST_LARGEST_BODIES = 64
"""That may be received at the same time; of smaller ones as many more."""


def create_app(context: ServerContext) -> Starlette:
    """The application that serves this context."""
    app = Starlette(
        routes=[
            Route("/v1/chat/completions", chat_completions, methods=["POST"]),
            Route("/v1/completions", completions, methods=["POST"]),
            Route("/v1/responses", create_response, methods=["POST"]),
            Route("/v1/responses/{response_id}", retrieve_response, methods=["GET"]),
            Route("/v1/responses/{response_id}", delete_response, methods=["DELETE"]),
            Route("/v1/responses/{response_id}/input_items", list_input_items),
            Route("/v1/messages", create_message, methods=["POST"]),
            Route("/v1/messages/count_tokens", count_tokens, methods=["POST"]),
            Route("/v1/embeddings", embeddings, methods=["POST"]),
            Route("/v1/models", list_models),
            Route("/v1/models/{model_id:path}", retrieve_model),
            Route("/tokenize", tokenize, methods=["POST"]),
            Route("/detokenize", detokenize, methods=["POST"]),
            Route("/tokenizer_info", tokenizer_info),
            Route("/health", ready),
            Route("/health/live", live),
            Route("/health/ready", ready),
            Route("/admin/drain", start_draining, methods=["POST"]),
            Route("/admin/drain", stop_draining, methods=["DELETE"]),
            Route("/metrics", metrics),
            Route("/version", version),
            Route("/openapi.json", openapi),
            Route("/docs", docs),
        ],
        middleware=_middleware(context),
        exception_handlers={
            GlmserveError: answer_glmserve_error,
            HTTPException: answer_http_error,
            ClientDisconnect: answer_client_gone,
        },
    )
    # A redirect names a scheme and a host, and behind a proxy those are not the client's.
    app.router.redirect_slashes = False
    app.state.context = context
    app.state.body_memory = BodyMemory(_MOST_LARGEST_BODIES * context.config.max_body_size)
    app.state.responses = ResponseStore(context.config.response_store_size)
    return app


def _middleware(context: ServerContext) -> list[Middleware]:
    """Outermost first: whoever answers, the layers before it add their headers."""
    config = context.config
    layers = [Middleware(RequestIdMiddleware)]
    if config.cors_origins:  # before the keys: a browser's preflight request carries none
        layers.append(
            Middleware(
                CorsMiddleware,
                allow_origins=config.cors_origins,
                allow_methods=["GET", "POST", "DELETE"],
                allow_headers=["*"],
                expose_headers=[REQUEST_ID_HEADER, "Retry-After", CACHE_HEADER, REPLAYED],
            )
        )
    layers += [
        Middleware(UnreadBodyMiddleware),
        Middleware(AnthropicErrorsMiddleware),
        Middleware(UnexpectedErrorMiddleware),
    ]
    if config.api_keys:
        open_paths = [
            "/admin/drain",  # has a key of its own
            *(["/metrics"] if config.public_metrics else []),
            *(["/docs", "/openapi.json"] if config.public_docs else []),
        ]
        hash_key = context.recorder.journal.secret if context.recorder else None
        layers += [
            Middleware(
                ApiKeyMiddleware, keys=config.api_keys, open_paths=open_paths, hash_key=hash_key
            ),
            Middleware(QuotaHeadersMiddleware, quotas=context.quotas),
        ]
    return layers
