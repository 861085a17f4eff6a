"""Failures in Anthropic's shape, and the header that its SDK reads request ids from."""

from __future__ import annotations

import math

import msgspec
from msgspec import UNSET
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from glmserve.api.answering.failure import Failure
from glmserve.api.anthropic.objects import AnthropicError, AnthropicErrorDetail
from glmserve.errors import ContextLengthError, InvalidRequestError, TextLengthError

PATH = "/v1/messages"

_TYPES = {
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    503: "overloaded_error",
    529: "overloaded_error",
}

_THREAD_UNSUPPORTED = "thread_unsupported_request"
_DETAILS = {
    _THREAD_UNSUPPORTED: {"error_code": _THREAD_UNSUPPORTED, "unsupported": ["thread"]},
}
"""What an error tells programs besides, by its code. After this one Anthropic's tool runner sends
the whole conversation."""


class ThreadUnsupportedError(InvalidRequestError):
    """400: the request wants the server to keep the conversation."""

    code = _THREAD_UNSUPPORTED


def anthropic_error(failure: Failure) -> AnthropicError:
    """The object that tells a client about a failure."""
    default = "invalid_request_error" if failure.status < 500 else "api_error"
    details = _DETAILS.get(failure.code or "", UNSET)
    detail = AnthropicErrorDetail(_TYPES.get(failure.status, default), failure.message, details)
    return AnthropicError(detail, failure.request_id)


def anthropic_error_body(failure: Failure) -> bytes:
    """The same as the body of an error response."""
    return msgspec.json.encode(anthropic_error(failure))


class PromptTooLongError(ContextLengthError):
    """The conversation exceeds the context, in Anthropic's words, which clients recognise."""

    @classmethod
    def of(cls, error: ContextLengthError) -> PromptTooLongError:
        """The same error in these words."""
        param = error.param or "messages"
        if isinstance(error, TextLengthError):  # at least as many tokens as these characters make
            tokens = math.ceil(error.num_characters * error.max_context / error.max_characters)
            return cls(param, tokens, 0, error.max_context)
        return cls(param, error.num_prompt_tokens, error.num_new_tokens, error.max_context)

    def _words(self) -> str:
        prompt, new, most = self.num_prompt_tokens, self.num_new_tokens, self.max_context
        if prompt >= most:
            return f"prompt is too long: {prompt} tokens > {most} maximum"
        return (
            f"input length and `max_tokens` exceed context limit: {prompt} + {new} > {most}, "
            "decrease input length or `max_tokens` and try again"
        )


class AnthropicRequestIdMiddleware:
    """Adds `request-id` to responses below /v1/messages, which the anthropic SDK reads."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request_id = scope.get("state", {}).get("request_id")
        if scope["type"] != "http" or request_id is None or not _is_ours(scope["path"]):
            await self._app(scope, receive, send)
            return
        header = (b"request-id", request_id.encode())

        async def send_with_id(message: Message) -> None:
            if message["type"] == "http.response.start":
                message = {**message, "headers": [*message.get("headers", ()), header]}
            await send(message)

        await self._app(scope, receive, send_with_id)


def _is_ours(path: str) -> bool:
    return path == PATH or path.startswith(PATH + "/")
