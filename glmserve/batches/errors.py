"""What goes wrong with files and batches, for clients."""

from __future__ import annotations

from glmserve.errors import GlmserveError


class StoredFileNotFoundError(GlmserveError):
    """The caller has no file of this id."""

    http_status = 404
    error_type = "invalid_request_error"
    code = "file_not_found"

    def __init__(self, file_id: str, param: str = "file_id") -> None:
        super().__init__(f"No such File object: {file_id[:100]}", param)  # OpenAI's words


class BatchNotFoundError(GlmserveError):
    """The caller has no batch of this id."""

    http_status = 404
    error_type = "invalid_request_error"
    code = "batch_not_found"

    def __init__(self, batch_id: str) -> None:
        super().__init__(f"No batch found with id '{batch_id[:100]}'", "batch_id")


class FileInUseError(GlmserveError):
    """An unfinished batch reads the file."""

    http_status = 400
    error_type = "invalid_request_error"
    code = "file_in_use"


class FileTooLargeError(GlmserveError):
    """A file is larger than one may be, or than what is left of its owner's share."""

    http_status = 413
    error_type = "invalid_request_error"
    code = "file_too_large"


class TooManyBatchesError(GlmserveError):
    """An owner has as many unfinished batches as one may have."""

    http_status = 429
    error_type = "rate_limit_error"
    code = "too_many_batches"
    retry_after = 60.0


class StorageError(GlmserveError):
    """The disk does not take what it should keep."""

    http_status = 507
    error_type = "server_error"
    code = "storage_failed"
