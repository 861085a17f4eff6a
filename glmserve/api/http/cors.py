"""Requests from web pages of other origins."""

from __future__ import annotations

from starlette.datastructures import Headers
from starlette.middleware.cors import CORSMiddleware
from starlette.responses import JSONResponse, Response

from glmserve.api.answering.failure import Failure, openai_error


class CorsMiddleware(CORSMiddleware):
    """Starlette's middleware, with refusals in the shape of all other errors."""

    def preflight_response(self, request_headers: Headers) -> Response:
        response = super().preflight_response(request_headers)
        if response.status_code < 400:
            return response
        message = bytes(response.body).decode()
        body = openai_error(Failure(response.status_code, message, "invalid_request_error"))
        kept = {k: v for k, v in response.headers.items() if not k.startswith("content-")}
        return JSONResponse(body, response.status_code, kept)
