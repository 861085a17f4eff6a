"""A failure as data, and OpenAI's shape of it: `{"error": {message, type, param, code}}`."""

from __future__ import annotations

from typing import Any, NamedTuple

from glmserve.errors import GlmserveError


class Failure(NamedTuple):
    """What a client is told when its request fails."""

    status: int
    """HTTP's."""
    message: str
    type: str
    """OpenAI's kind of error, such as invalid_request_error."""
    param: str | None = None
    """The field to change."""
    code: str | None = None
    request_id: str | None = None


def failure_of(error: GlmserveError) -> Failure:
    """The failure that an error becomes."""
    return Failure(error.http_status, error.message, error.error_type, error.param, error.code)


def openai_error(failure: Failure) -> dict[str, Any]:
    """The body of an error response, or the data of an error event, in OpenAI's shape."""
    return {
        "error": {
            "message": failure.message,
            "type": failure.type,
            "param": failure.param,
            "code": failure.code,
        }
    }
