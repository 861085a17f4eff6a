"""Finds the service behind the routes of files and batches."""

from __future__ import annotations

from starlette.requests import Request

from glmserve.api.batching.runner import BatchRunner
from glmserve.batches.storage import BatchStorage
from glmserve.errors import GlmserveError


class BatchesDisabledError(GlmserveError):
    """The server has no folder for files and batches."""

    http_status = 403
    error_type = "permission_error"
    code = "batches_disabled"


def runner_of(request: Request) -> BatchRunner:
    """What runs the batches of this server.

    Raises:
        BatchesDisabledError: the server keeps none.
    """
    runner: BatchRunner | None = request.app.state.batches
    if runner is None:
        raise BatchesDisabledError(
            "this server keeps no files and no batches; its operator can start it with "
            "--batch-dir FOLDER"
        )
    return runner


def storage_of(request: Request) -> BatchStorage:
    """What keeps the files of this server.

    Raises:
        BatchesDisabledError: the server keeps none.
    """
    return runner_of(request).storage
