"""OpenAI's objects for files and batches."""

from __future__ import annotations

from typing import Literal

import msgspec

from glmserve.batches.records import BatchRecord, FileRecord, LineProblem, Status


class FileObject(msgspec.Struct):
    """A stored file. Times are Unix seconds."""

    id: str
    bytes: int
    created_at: int
    expires_at: int | None
    filename: str
    purpose: str
    object: Literal["file"] = "file"
    status: Literal["processed"] = "processed"
    status_details: None = None

    @classmethod
    def of(cls, file: FileRecord) -> FileObject:
        """The object of a file."""
        return cls(file.id, file.num_bytes, file.created, file.expires, file.name, file.purpose)


class FileList(msgspec.Struct):
    """A page of files."""

    data: list[FileObject]
    first_id: str | None
    last_id: str | None
    has_more: bool
    object: Literal["list"] = "list"


class DeletedFile(msgspec.Struct):
    """A file that is no more."""

    id: str
    object: Literal["file"] = "file"
    deleted: bool = True


class RequestCounts(msgspec.Struct):
    """Lines of a batch."""

    total: int
    completed: int
    failed: int


class Problems(msgspec.Struct):
    """What is wrong with a batch's input."""

    data: list[LineProblem]
    object: Literal["list"] = "list"


class BatchObject(msgspec.Struct):
    """A batch. Times are Unix seconds."""

    id: str
    endpoint: str
    model: str
    errors: Problems | None
    input_file_id: str
    completion_window: str
    status: Status
    output_file_id: str | None
    error_file_id: str | None
    created_at: int
    in_progress_at: int | None
    expires_at: int
    finalizing_at: int | None
    completed_at: int | None
    failed_at: int | None
    expired_at: int | None
    cancelling_at: int | None
    cancelled_at: int | None
    request_counts: RequestCounts
    metadata: dict[str, str] | None
    object: Literal["batch"] = "batch"

    @classmethod
    def of(cls, batch: BatchRecord, model: str, counts: RequestCounts) -> BatchObject:
        """The object of a batch.

        Args:
            model: name of the served model.
        """
        time = batch.times.get
        return cls(
            id=batch.id,
            endpoint=batch.endpoint,
            model=model,
            errors=Problems(batch.problems) if batch.problems else None,
            input_file_id=batch.input_file,
            completion_window=batch.window,
            status=batch.status,
            output_file_id=_ended(batch, batch.output_file),
            error_file_id=_ended(batch, batch.error_file),
            created_at=batch.created,
            in_progress_at=time("in_progress"),
            expires_at=batch.expires,
            finalizing_at=time("finalizing"),
            completed_at=time("completed"),
            failed_at=time("failed"),
            expired_at=time("expired"),
            cancelling_at=time("cancelling"),
            cancelled_at=time("cancelled"),
            request_counts=counts,
            metadata=batch.metadata,
        )


class BatchList(msgspec.Struct):
    """A page of batches, the newest first."""

    data: list[BatchObject]
    first_id: str | None
    last_id: str | None
    has_more: bool
    object: Literal["list"] = "list"


def _ended(batch: BatchRecord, file_id: str) -> str | None:
    """The id of a file that a batch has written; None before its end, or if there is none."""
    return file_id if file_id and batch.is_finished else None
