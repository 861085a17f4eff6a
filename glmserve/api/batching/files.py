"""/v1/files"""

from __future__ import annotations

import asyncio
from pathlib import Path

from starlette.requests import Request
from starlette.responses import FileResponse, Response

from glmserve.api.batching.form import UploadForm, read_form
from glmserve.api.batching.objects import DeletedFile, FileList, FileObject
from glmserve.api.batching.pages import check_query, is_ascending, page_limit
from glmserve.api.batching.requests import LONGEST_KEEP, SHORTEST_KEEP
from glmserve.api.batching.service import storage_of
from glmserve.api.http.responses import json_response
from glmserve.api.http.state import caller_of
from glmserve.batches.errors import StoredFileNotFoundError
from glmserve.batches.records import FileRecord
from glmserve.batches.storage import BatchStorage
from glmserve.errors import InvalidRequestError

_LONGEST_PAGE = 10_000  # files; OpenAI's


async def create_file(request: Request) -> Response:
    """Store a file."""
    storage, owner = storage_of(request), caller_of(request).owner
    file_id, upload = await storage.begin_upload(owner)
    try:
        form = await read_form(request, upload)
        _check_purpose(form)
        created = int(storage.now())
        keep = _seconds(form) or storage.config.keep
        file = FileRecord(
            file_id,
            owner,
            form.filename or "",
            "batch",
            upload.num_bytes,
            created,
            created + keep if keep else None,
        )
        await storage.finish_upload(upload, file)
    except BaseException:
        await storage.discard_upload(upload, owner)
        raise
    return json_response(FileObject.of(file))


async def list_files(request: Request) -> Response:
    """The caller's files, in pages."""
    storage, owner = storage_of(request), caller_of(request).owner
    check_query(request, ("after", "limit", "order", "purpose"))
    limit, query = page_limit(request, _LONGEST_PAGE, _LONGEST_PAGE), request.query_params
    files = await storage.list_files(
        owner,
        query.get("purpose"),
        query.get("after"),
        limit + 1,
        ascending=is_ascending(request),
    )
    page = [FileObject.of(file) for file in files[:limit]]
    first, last = (page[0].id, page[-1].id) if page else (None, None)
    return json_response(FileList(page, first, last, has_more=len(files) > limit))


async def retrieve_file(request: Request) -> Response:
    """What is known of a file."""
    return json_response(FileObject.of(await _find(request)))


async def retrieve_content(request: Request) -> Response:
    """A file's contents."""
    storage, file = storage_of(request), await _find(request)
    return await _contents(storage, file)


async def delete_file(request: Request) -> Response:
    """Delete a file."""
    file = await _find(request)
    await storage_of(request).delete_file(file)
    return json_response(DeletedFile(file.id))


async def _find(request: Request) -> FileRecord:
    storage, owner = storage_of(request), caller_of(request).owner
    return await storage.find_file(owner, request.path_params["file_id"])


async def _contents(storage: BatchStorage, file: FileRecord) -> Response:
    path: Path = storage.path(file.id)
    try:
        status = await asyncio.to_thread(path.stat)
    except FileNotFoundError:  # deleted meanwhile
        raise StoredFileNotFoundError(file.id) from None
    return FileResponse(path, media_type="application/octet-stream", stat_result=status)


def _check_purpose(form: UploadForm) -> None:
    purpose = form.fields.get("purpose")
    if purpose is None:
        raise InvalidRequestError("purpose is required", "purpose")
    if purpose != "batch":
        raise InvalidRequestError(
            "purpose must be 'batch': this server uses files for nothing else", "purpose"
        )


def _seconds(form: UploadForm) -> int | None:
    """How long to keep the file; None: the client does not say."""
    anchor = form.fields.get("expires_after[anchor]")
    seconds = form.fields.get("expires_after[seconds]")
    if anchor is None and seconds is None:
        return None
    if anchor != "created_at":
        raise InvalidRequestError(
            "expires_after.anchor must be 'created_at'", "expires_after.anchor"
        )
    is_number = seconds is not None and seconds.isascii() and seconds.isdecimal()
    if (
        seconds is None
        or not is_number
        or len(seconds) > len(str(LONGEST_KEEP))
        or not SHORTEST_KEEP <= int(seconds) <= LONGEST_KEEP
    ):
        raise InvalidRequestError(
            f"expires_after.seconds must be a number from {SHORTEST_KEEP} to {LONGEST_KEEP}",
            "expires_after.seconds",
        )
    return int(seconds)
