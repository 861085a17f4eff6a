"""Failures in Anthropic's shape."""

from __future__ import annotations

import math

import msgspec
from msgspec import UNSET

from glmserve.api.answering.failure import Failure
from glmserve.api.anthropic.objects import AnthropicError, AnthropicErrorDetail
from glmserve.errors import ContextLengthError, InvalidRequestError, TextLengthError

PATH = "/v1/messages"
REQUEST_ID_HEADER = "request-id"
"""From which the anthropic SDK reads request ids."""

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
