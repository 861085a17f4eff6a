"""/v1/batches"""

from __future__ import annotations

import secrets

from starlette.requests import Request
from starlette.responses import Response

from glmserve.api.batching.objects import BatchList, BatchObject
from glmserve.api.batching.pages import check_query, page_limit
from glmserve.api.batching.requests import CreateBatchRequest, window_seconds
from glmserve.api.batching.service import runner_of, storage_of
from glmserve.api.http.body import read_request
from glmserve.api.http.responses import json_response
from glmserve.api.http.state import caller_of, context_of
from glmserve.batches.records import BatchRecord
from glmserve.errors import InvalidRequestError

_DEFAULT_PAGE, _LONGEST_PAGE = 20, 100  # batches; OpenAI's


async def create_batch(request: Request) -> Response:
    """Accept a batch. Its file is checked afterwards, see its status."""
    runner, owner = runner_of(request), caller_of(request).owner
    wanted, _ = await read_request(request, CreateBatchRequest)
    file = await runner.storage.find_file(owner, wanted.input_file_id, "input_file_id")
    if file.purpose != "batch":
        raise InvalidRequestError(
            "input_file_id must be a file with purpose 'batch'", "input_file_id"
        )
    now, seconds = int(runner.storage.now()), window_seconds(wanted.completion_window)
    assert seconds is not None  # as it was checked
    keep = wanted.output_expires_after
    batch = BatchRecord(
        f"batch_{secrets.token_hex(12)}",
        owner,
        wanted.endpoint,
        file.id,
        wanted.completion_window,
        now,
        now + seconds,
        metadata=wanted.metadata,
        output_seconds=keep.seconds if keep is not None else None,
    )
    await runner.add(batch)
    return _answer(request, batch)


async def retrieve_batch(request: Request) -> Response:
    """A batch as it is now."""
    return _answer(request, await _find(request))


async def cancel_batch(request: Request) -> Response:
    """Stop a batch. Answers that are there already stay in its output."""
    batch = await _find(request)
    return _answer(request, await runner_of(request).cancel(batch))


async def list_batches(request: Request) -> Response:
    """The caller's batches, in pages."""
    runner, owner = runner_of(request), caller_of(request).owner
    check_query(request, ("after", "limit"))
    limit = page_limit(request, _DEFAULT_PAGE, _LONGEST_PAGE)
    batches = await runner.storage.list_batches(owner, request.query_params.get("after"), limit + 1)
    page = [_object(request, batch) for batch in batches[:limit]]
    first, last = (page[0].id, page[-1].id) if page else (None, None)
    return json_response(BatchList(page, first, last, has_more=len(batches) > limit))


async def _find(request: Request) -> BatchRecord:
    owner = caller_of(request).owner
    return await storage_of(request).find_batch(owner, request.path_params["batch_id"])


def _answer(request: Request, batch: BatchRecord) -> Response:
    return json_response(_object(request, batch))


def _object(request: Request, batch: BatchRecord) -> BatchObject:
    model = context_of(request).config.served_model_name
    return BatchObject.of(batch, model, runner_of(request).counts(batch))
