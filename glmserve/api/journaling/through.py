"""Who asks: somebody new, or somebody who wants the rest."""

from __future__ import annotations

import asyncio
import re

from starlette.background import BackgroundTask
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from glmserve.api.caller import caller_of
from glmserve.api.choices import disconnected
from glmserve.api.context import context_of
from glmserve.api.journaling.asked import Asked, MakeResponse
from glmserve.api.journaling.errors import (
    KeyReusedError,
    StreamGoneError,
    StreamMismatchError,
    StreamTakenOverError,
)
from glmserve.api.journaling.event_id import EventId, parse_event_id
from glmserve.api.journaling.recorder import AnswerRecorder
from glmserve.api.journaling.recording import Recording
from glmserve.api.offload import offload
from glmserve.api.sse import GenerationResponse
from glmserve.errors import InvalidRequestError
from glmserve.journal import Entry, digest_of

_LIGHT_BYTES = 64
"""Bytes that are hashed in less time than a character is tokenized; see `offload`."""
_KEY = re.compile(r"[!-~]{1,255}")

UNFINISHED = "unfinished_entry"
"""In a request's state: the entry to finish, when no client asks but the server itself."""
LAST_EVENT_ID = "Last-Event-ID"
IDEMPOTENCY_KEY = "Idempotency-Key"
REPLAYED = "Idempotent-Replayed"
"""`true` on answers to requests that were accepted before; Stripe's word for it."""


async def through_journal(request: Request, is_stream: bool, answer: MakeResponse) -> Response:
    """The answer to a request that `read_request` has read, recorded; or the rest of one that was.

    Raises:
        StreamGoneError, StreamMismatchError, KeyReusedError, InvalidRequestError: the headers name
            an answer that this client cannot go on with.
        GlmserveError: as `answer` does.
    """
    recorder = context_of(request).recorder
    if recorder is None:
        if request.headers.get(LAST_EVENT_ID):
            raise StreamGoneError("this server keeps no journal of streams (--journal); ask anew")
        return await answer(Asked(caller_of(request)))
    recording = await _recording(recorder, request, is_stream)
    try:
        response = await answer(Asked(caller_of(request), recording.identity, recording))
    except BaseException as error:
        recording.close(error)
        raise
    if isinstance(response, GenerationResponse):
        return response  # closes the recording itself
    if hasattr(request.state, UNFINISHED):
        recording.close()
        return response
    if recording.is_resumed:
        response.headers[REPLAYED] = "true"
    response.background = BackgroundTask(recording.delivered)
    return response


async def _recording(recorder: AnswerRecorder, request: Request, is_stream: bool) -> Recording:
    if (entry := getattr(request.state, UNFINISHED, None)) is not None:
        if recorder.live(entry) is not None:
            raise StreamTakenOverError("the client is back")
        return await recorder.resume(entry)
    path, body = request.url.path, request.state.body
    digest = await offload(lambda: digest_of(path, body), len(body) // _LIGHT_BYTES)
    owner = caller_of(request).key_id or ""
    index = recorder.journal.index
    if event_id := request.headers.get(LAST_EVENT_ID):
        if not is_stream:
            raise InvalidRequestError("only a stream can be gone on with", LAST_EVENT_ID)
        return await _resume_stream(recorder, owner, event_id, digest)
    key = _idempotency_key(request)
    while (entry := index.find_key(owner, key) if key else None) is not None:
        if entry.digest != digest:
            raise KeyReusedError(
                "this Idempotency-Key was used for another request; send a new key, or the same "
                "path and body, byte for byte"
            )
        if is_stream or recorder.live(entry) is None:
            return await _resume(recorder, entry)
        await _wait_for(recorder, entry, request)
    unnamed = not is_stream and key is None
    while (entry := index.find_orphan(owner, digest) if unnamed else None) is not None:
        if recorder.live(entry) is None:
            index.claim_orphan(entry)
            return await recorder.resume(entry)
        await _wait_for(recorder, entry, request)
    entry = recorder.journal.new_entry(
        owner, path, digest, is_stream=is_stream, idempotency_key=key
    )
    return recorder.begin(entry, body)


async def _resume_stream(
    recorder: AnswerRecorder, owner: str, event_id: str, digest: bytes
) -> Recording:
    last = parse_event_id(event_id)
    entry = recorder.journal.index.find_stream(owner, last.stream_id) if last else None
    if last is None or entry is None:
        raise StreamGoneError(
            "there is no such stream here, or no longer; leave out Last-Event-ID to ask anew"
        )
    if entry.digest != digest:
        raise StreamMismatchError(
            "Last-Event-ID names the stream of another request; send that one's path and body "
            "again, byte for byte"
        )
    return await _resume(recorder, entry, last)


async def _resume(recorder: AnswerRecorder, entry: Entry, last: EventId | None = None) -> Recording:
    recording = await recorder.resume(entry, last)
    recorder.journal.metrics.resumed += entry.is_stream
    return recording


def _idempotency_key(request: Request) -> str | None:
    key = request.headers.get(IDEMPOTENCY_KEY)
    if key is not None and not _KEY.fullmatch(key):
        raise InvalidRequestError(
            "Idempotency-Key must have 1 to 255 visible ASCII characters", IDEMPOTENCY_KEY
        )
    return key


async def _wait_for(recorder: AnswerRecorder, entry: Entry, request: Request) -> None:
    """Until nobody answers it any more.

    Raises:
        ClientDisconnect: the client that wants to know has left.
    """
    recording = recorder.live(entry)
    if recording is None:
        return
    ending = asyncio.ensure_future(recording.closed.wait())
    leaving = asyncio.ensure_future(disconnected(request))
    try:
        await asyncio.wait((ending, leaving), return_when=asyncio.FIRST_COMPLETED)
        if not ending.done():
            raise ClientDisconnect
    finally:
        ending.cancel()
        leaving.cancel()
