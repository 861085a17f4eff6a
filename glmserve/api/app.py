"""The ASGI application: its routes, and the middleware around them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import ClientDisconnect
from starlette.routing import Route, WebSocketRoute

from glmserve.api.answering.caller import ANONYMOUS
from glmserve.api.answering.client import ClientGoneError
from glmserve.api.answering.context import ServerContext
from glmserve.api.answering.endpoint import Endpoint
from glmserve.api.answering.left_out_tools import LEFT_OUT_HEADER
from glmserve.api.answering.pipeline import CACHE_HEADER, REPLAYED_HEADER
from glmserve.api.answering.structure import DROPPED_HEADER
from glmserve.api.anthropic.errors import PATH as ANTHROPIC_PATH
from glmserve.api.anthropic.errors import REQUEST_ID_HEADER as ANTHROPIC_ID_HEADER
from glmserve.api.anthropic.errors import anthropic_error_body
from glmserve.api.anthropic.handlers import count_tokens, render_message
from glmserve.api.batching.files import (
    create_file,
    delete_file,
    list_files,
    retrieve_content,
    retrieve_file,
)
from glmserve.api.batching.handlers import (
    cancel_batch,
    create_batch,
    list_batches,
    retrieve_batch,
)
from glmserve.api.batching.runner import BatchRunner
from glmserve.api.endpoints import answer_endpoints
from glmserve.api.http.access import AccessMiddleware, AccessObserver
from glmserve.api.http.auth import ApiKeyMiddleware, ApiKeys
from glmserve.api.http.body import BodyMemory
from glmserve.api.http.cors import CorsMiddleware
from glmserve.api.http.endpoint import answering
from glmserve.api.http.errors import (
    UnexpectedErrorMiddleware,
    answer_client_gone,
    answer_glmserve_error,
    answer_http_error,
)
from glmserve.api.http.paths import PathMiddleware
from glmserve.api.http.quota_headers import QuotaHeadersMiddleware
from glmserve.api.http.request_id import REQUEST_ID_HEADER, RequestIdMiddleware
from glmserve.api.http.unread_body import UnreadBodyMiddleware
from glmserve.api.openai.invocations import invocations
from glmserve.api.openai.models import list_models, retrieve_model
from glmserve.api.openai.render import render_chat, render_completion
from glmserve.api.openai.responses.background import BackgroundResponses
from glmserve.api.openai.responses.connection import ResponsesConnections
from glmserve.api.openai.responses.endpoint import ResponsesEndpoint
from glmserve.api.openai.responses.handlers import (
    cancel_response,
    count_input_tokens,
    create_response,
    delete_response,
    list_input_items,
    render_response,
    retrieve_response,
)
from glmserve.api.openai.responses.store import ResponseStore
from glmserve.api.operator.adapters import (
    LOAD_PATH,
    UNLOAD_PATH,
    add_adapter,
    list_adapters,
    load_lora_adapter,
    remove_adapter,
    unload_lora_adapter,
)
from glmserve.api.operator.admin import start_draining, stop_draining
from glmserve.api.operator.health import live, metrics, ready, started, version
from glmserve.api.operator.http_metrics import HttpMetrics
from glmserve.api.operator.metrics_view import MetricsView, vllm_families
from glmserve.api.operator.openapi import openapi
from glmserve.api.page.board import board, board_events
from glmserve.api.page.defaults import sampling_defaults
from glmserve.api.page.handlers import FILES, docs, file, page
from glmserve.api.tokenizer.info import tokenizer_info
from glmserve.api.tokenizer.tokens import detokenize, tokenize
from glmserve.errors import GlmserveError

_MOST_LARGEST_BODIES = 64
"""Bodies of the largest size that may be received at the same time; more if they are smaller."""


def create_app(
    context: ServerContext,
    observers: Sequence[AccessObserver] = (),
    outermost: Sequence[Middleware] = (),
) -> Starlette:
    """The application that serves this context.

    Args:
        observers: called with a record of each answered request.
        outermost: further layers around all others.
    """
    keys = _api_keys(context)
    store = ResponseStore(context.config.response_store_size)
    endpoints = answer_endpoints(store)
    handlers = {path: answering(endpoint, context) for path, endpoint in endpoints.items()}
    responses = endpoints[ResponsesEndpoint.path]
    assert isinstance(responses, ResponsesEndpoint)
    handlers[responses.path] = create_response(responses, context)
    app = Starlette(
        routes=[
            *(Route(path, handler, methods=["POST"]) for path, handler in handlers.items()),
            WebSocketRoute(responses.path, ResponsesConnections(context, store)),
            Route(
                f"{responses.path}/input_tokens", count_input_tokens(responses), methods=["POST"]
            ),
            Route(f"{responses.path}/render", render_response(responses), methods=["POST"]),
            Route("/v1/responses/{response_id}/cancel", cancel_response, methods=["POST"]),
            Route("/v1/responses/{response_id}", retrieve_response, methods=["GET"]),
            Route("/v1/responses/{response_id}", delete_response, methods=["DELETE"]),
            Route("/v1/responses/{response_id}/input_items", list_input_items),
            Route("/v1/messages/count_tokens", count_tokens, methods=["POST"]),
            Route("/v1/messages/render", render_message, methods=["POST"]),
            Route("/v1/chat/completions/render", render_chat, methods=["POST"]),
            Route("/v1/completions/render", render_completion, methods=["POST"]),
            Route("/v1/files", create_file, methods=["POST"]),
            Route("/v1/files", list_files, methods=["GET"]),
            Route("/v1/files/{file_id}", retrieve_file, methods=["GET"]),
            Route("/v1/files/{file_id}", delete_file, methods=["DELETE"]),
            Route("/v1/files/{file_id}/content", retrieve_content),
            Route("/v1/batches", create_batch, methods=["POST"]),
            Route("/v1/batches", list_batches, methods=["GET"]),
            Route("/v1/batches/{batch_id}", retrieve_batch),
            Route("/v1/batches/{batch_id}/cancel", cancel_batch, methods=["POST"]),
            Route("/v1/models", list_models),
            Route("/v1/models/{model_id:path}", retrieve_model),
            Route("/tokenize", tokenize, methods=["POST"]),
            Route("/detokenize", detokenize, methods=["POST"]),
            Route("/tokenizer_info", tokenizer_info),
            Route("/invocations", invocations(handlers), methods=["POST"]),
            Route("/ping", ready, methods=["GET", "POST"]),
            Route("/health", ready),
            Route("/health/live", live),
            Route("/health/started", started),
            Route("/health/ready", ready),
            Route("/admin/drain", start_draining, methods=["POST"]),
            Route("/admin/drain", stop_draining, methods=["DELETE"]),
            Route("/admin/adapters", add_adapter, methods=["POST"]),
            Route("/admin/adapters", list_adapters),
            Route("/admin/adapters/{name:path}", remove_adapter, methods=["DELETE"]),
            Route(LOAD_PATH, load_lora_adapter, methods=["POST"]),
            Route(UNLOAD_PATH, unload_lora_adapter, methods=["POST"]),
            Route("/metrics", metrics),
            Route("/version", version),
            Route("/openapi.json", openapi),
            Route("/docs", docs),
            Route("/sampling_defaults", sampling_defaults),
            Route("/board/events", board_events),
            *_page_routes(context.config.page),
        ],
        middleware=[*outermost, *_middleware(context, observers, keys)],
        exception_handlers={
            GlmserveError: answer_glmserve_error,
            HTTPException: answer_http_error,
            ClientDisconnect: answer_client_gone,
            ClientGoneError: answer_client_gone,
        },
    )
    # A redirect names a scheme and a host, and behind a proxy those are not the client's.
    app.router.redirect_slashes = False
    app.state.context = context
    app.state.endpoints = endpoints
    app.state.error_shapes = {ANTHROPIC_PATH: anthropic_error_body}
    largest_body = context.config.max_body_size
    app.state.body_memory = BodyMemory(_MOST_LARGEST_BODIES * largest_body, largest_body)
    app.state.unknown_fields = context.unknown_fields
    app.state.responses = store
    app.state.background = BackgroundResponses()
    app.state.batches = _batch_runner(context, app.state.endpoints, keys)
    app.state.metrics = MetricsView(
        context.engine.stats.registry,
        context.config.served_model_name,
        vllm_families if context.config.metrics_compat else None,
    )
    return app


def _api_keys(context: ServerContext) -> ApiKeys:
    hash_key = context.answers.journal.secret if context.answers else None
    owner_key = context.batches.secret if context.batches else None
    return ApiKeys(context.config.api_keys, hash_key, owner_key)


def _batch_runner(
    context: ServerContext, endpoints: Mapping[str, Endpoint[Any]], keys: ApiKeys
) -> BatchRunner | None:
    if context.batches is None:
        return None
    found = (keys.identify(key.encode()) for key in context.config.api_keys)
    callers = {caller.owner: caller for caller in found if caller is not None}
    return BatchRunner(context, context.batches, endpoints, callers or {"": ANONYMOUS})


def _page_routes(has_page: bool) -> list[Route]:
    """What people look at is not described as part of the API. /docs needs the files, too."""
    files = Route(f"{FILES}{{version}}/{{name:path}}", file, include_in_schema=False)
    pages = {"/": page, "/board": board} if has_page else {}
    return [files, *(Route(path, e, include_in_schema=False) for path, e in pages.items())]


def _middleware(
    context: ServerContext, observers: Sequence[AccessObserver], keys: ApiKeys
) -> list[Middleware]:
    """Outermost first: a layer adds its headers to the answers of the layers behind it."""
    config, count = context.config, HttpMetrics(context.engine.stats.registry)
    layers = [
        Middleware(RequestIdMiddleware, further={ANTHROPIC_PATH: ANTHROPIC_ID_HEADER}),
        Middleware(AccessMiddleware, observers=[count, *observers]),
        Middleware(PathMiddleware, root_path=config.root_path),
    ]
    if config.cors_origins:  # before the keys: a browser's preflight request carries none
        exposed = [
            *(REQUEST_ID_HEADER, "Retry-After", CACHE_HEADER, REPLAYED_HEADER),
            *(DROPPED_HEADER, LEFT_OUT_HEADER),
        ]
        layers.append(
            Middleware(
                CorsMiddleware,
                allow_origins=config.cors_origins,
                allow_methods=["GET", "POST", "DELETE"],
                allow_headers=["*"],
                expose_headers=exposed,
            )
        )
    layers += [
        Middleware(UnreadBodyMiddleware),
        Middleware(UnexpectedErrorMiddleware),
    ]
    if config.api_keys:
        open_paths = [
            *("/admin/drain", "/admin/adapters", "/admin/adapters/"),  # have a key of their own
            "/board/events",
            *(LOAD_PATH, UNLOAD_PATH),
            "/ping",
            *("/", "/board", "/docs", FILES),  # these hold nothing of the server's
            *(["/metrics"] if config.public_metrics else []),
            *(["/openapi.json"] if config.public_docs else []),
        ]
        layers += [
            Middleware(ApiKeyMiddleware, keys=keys, open_paths=open_paths),
            Middleware(QuotaHeadersMiddleware, quotas=context.quotas),
        ]
    return layers
