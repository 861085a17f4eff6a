"""Why an answer cannot be resumed."""

from __future__ import annotations

from glmserve.errors import GlmserveError, InvalidRequestError


class StreamGoneError(GlmserveError):
    """404: the stream does not exist, belongs to another API key, or has expired."""

    http_status = 404
    error_type = "invalid_request_error"
    code = "stream_gone"


class StreamMismatchError(InvalidRequestError):
    """400: Last-Event-ID names the stream of another request."""

    code = "stream_mismatch"


class StreamTakenOverError(GlmserveError):
    """409: a later connection has resumed the stream."""

    http_status = 409
    error_type = "invalid_request_error"
    code = "stream_taken_over"


class AdapterChangedError(GlmserveError):
    """409: the answer was begun with another content of its adapter."""

    http_status = 409
    error_type = "invalid_request_error"
    code = "adapter_changed"


class JournalUnavailableError(GlmserveError):
    """503: the journal of several servers cannot be reached."""

    http_status = 503
    error_type = "server_error"
    code = "journal_unavailable"
    retry_after = 1.0


class KeyReusedError(InvalidRequestError):
    """400: an Idempotency-Key comes with another request than before."""

    code = "idempotency_key_reused"
