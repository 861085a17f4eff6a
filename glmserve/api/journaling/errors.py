"""Why an answer cannot be gone on with."""

from __future__ import annotations

from glmserve.errors import GlmserveError, InvalidRequestError


class StreamGoneError(GlmserveError):
    """404: there is no such stream, or it is somebody else's, or it was not asked for in time."""

    http_status = 404
    error_type = "invalid_request_error"
    code = "stream_gone"


class StreamMismatchError(InvalidRequestError):
    """400: a stream is asked for with another request than its own."""

    code = "stream_mismatch"


class StreamTakenOverError(GlmserveError):
    """409: a later connection goes on with the stream."""

    http_status = 409
    error_type = "invalid_request_error"
    code = "stream_taken_over"


class KeyReusedError(InvalidRequestError):
    """400: an Idempotency-Key comes with another request than before."""

    code = "idempotency_key_reused"
