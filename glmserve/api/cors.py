"""Pages of other origins."""

from __future__ import annotations

from starlette.datastructures import Headers
from starlette.middleware.cors import CORSMiddleware
from starlette.responses import JSONResponse, Response

from glmserve.api.errors import error_body


class CorsMiddleware(CORSMiddleware):
    """Starlette's, refusing in the shape of all other errors."""

    def preflight_response(self, request_headers: Headers) -> Response:
        response = super().preflight_response(request_headers)
        if response.status_code < 400:
            return response
        body = error_body(bytes(response.body).decode(), "invalid_request_error")
        kept = {k: v for k, v in response.headers.items() if not k.startswith("content-")}
        return JSONResponse(body, response.status_code, kept)
