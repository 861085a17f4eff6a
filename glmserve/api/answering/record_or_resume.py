"""The first step of answering with a journal: is the request new, or does it ask for the rest?"""

from __future__ import annotations

import asyncio
import re

from glmserve.api.answering.client import unless_client_leaves
from glmserve.api.answering.endpoint import AnswerRequest
from glmserve.api.answering.threads import run_in_thread_if_large
from glmserve.api.journaling.answer_registry import AnswerRegistry
from glmserve.api.journaling.errors import (
    AdapterChangedError,
    KeyReusedError,
    StreamGoneError,
    StreamMismatchError,
    StreamTakenOverError,
)
from glmserve.api.journaling.event_id import EventId, parse_event_id
from glmserve.api.journaling.journaled_answer import JournaledAnswer
from glmserve.errors import InvalidRequestError
from glmserve.journal import Claim, Entry, EntryBusyError, digest_of

_LIGHT_BYTES = 64
"""Bytes that are hashed in less time than a character is tokenized; see run_in_thread_if_large."""
_PAUSE = 0.1
"""Seconds until another server is asked again whether its answer is complete."""
_KEY = re.compile(r"[!-~]{1,255}")

LAST_EVENT_ID = "Last-Event-ID"
IDEMPOTENCY_KEY = "Idempotency-Key"


async def record_or_resume(registry: AnswerRegistry, request: AnswerRequest) -> JournaledAnswer:
    """A new record for a new request, or the record of the answer that the request asks for.

    Raises:
        StreamGoneError, StreamMismatchError, KeyReusedError, AdapterChangedError,
            InvalidRequestError: the headers name an answer that this client cannot resume.
        JournalUnavailableError: the answer may be there, and cannot be read now.
        ClientGoneError: the client left while an equal request was being answered.
    """
    if request.unfinished is not None:
        if registry.live(request.unfinished) is not None:
            raise StreamTakenOverError("the client is back")
        if request.unfinished.adapter != _adapter(request):
            raise _changed_adapter(request)
        return await registry.resume(request.unfinished, Claim.OWN)
    path, body = request.endpoint.path, request.body
    adapter = _adapter(request)
    digest = await run_in_thread_if_large(
        lambda: digest_of(path, body, adapter), len(body) // _LIGHT_BYTES
    )
    if request.last_event_id:
        if not request.is_resumable:
            raise InvalidRequestError("only a stream can be gone on with", LAST_EVENT_ID)
        return await _resume_stream(registry, request, request.last_event_id, digest)
    return await _find_or_begin(registry, request, digest)


async def _resume_stream(
    registry: AnswerRegistry, request: AnswerRequest, event_id: str, digest: bytes
) -> JournaledAnswer:
    last = parse_event_id(event_id)
    entry = await registry.find_stream(_owner(request), last.stream_id) if last else None
    if last is None or entry is None:
        raise StreamGoneError(
            "there is no such stream here, or no longer; leave out Last-Event-ID to ask anew"
        )
    if entry.digest != digest:
        if _began_under_another_adapter(entry, request):
            raise _changed_adapter(request)
        raise StreamMismatchError(
            "Last-Event-ID names the stream of another request; send that one's path and body "
            "again, byte for byte"
        )
    return await _resume(registry, entry, Claim.STREAM, last)


async def _find_or_begin(
    registry: AnswerRegistry, request: AnswerRequest, digest: bytes
) -> JournaledAnswer:
    """The answer with the same Idempotency-Key, or one that lost its client, or a new one."""
    key = _idempotency_key(request)
    while True:
        try:
            answer = await _find(registry, request, key, digest) or await _begin(
                registry, request, key, digest
            )
        except EntryBusyError:  # another server is at it
            await unless_client_leaves(request.client_left, asyncio.sleep(_PAUSE))
            continue
        if answer is not None:
            return answer


async def _find(
    registry: AnswerRegistry, request: AnswerRequest, key: str | None, digest: bytes
) -> JournaledAnswer | None:
    """The answer with the same Idempotency-Key, or one that lost its client; None: there is none.

    Raises:
        EntryBusyError: another server answers it.
    """
    entries, owner = registry.journal.entries, _owner(request)
    while (entry := await entries.find_key(owner, key) if key else None) is not None:
        if entry.digest != digest:
            if _began_under_another_adapter(entry, request):
                raise _changed_adapter(request)
            raise KeyReusedError(
                "this Idempotency-Key was used for another request; send a new key, or the same "
                "path and body, byte for byte"
            )
        if request.is_resumable:
            return await _resume(registry, entry, Claim.STREAM)
        if registry.live(entry) is None:
            return await _resume(registry, entry, Claim.KEY)
        await _wait_for(registry, entry, request)
    is_unnamed = not request.is_resumable and key is None
    while (entry := await entries.find_orphan(owner, digest) if is_unnamed else None) is not None:
        if registry.live(entry) is None:
            return await registry.resume(entry, Claim.ORPHAN)
        await _wait_for(registry, entry, request)
    return None


async def _begin(
    registry: AnswerRegistry, request: AnswerRequest, key: str | None, digest: bytes
) -> JournaledAnswer | None:
    """A new answer; None if another server was quicker with the Idempotency-Key."""
    entry = await registry.journal.reserve(
        _owner(request),
        request.endpoint.path,
        digest,
        is_stream=request.is_resumable,
        idempotency_key=key,
        adapter=_adapter(request),
    )
    return registry.begin(entry, request.body) if entry is not None else None


async def _resume(
    registry: AnswerRegistry, entry: Entry, claim: Claim, last: EventId | None = None
) -> JournaledAnswer:
    answer = await registry.resume(entry, claim, last)
    registry.journal.metrics.resumed += entry.is_stream
    return answer


def _adapter(request: AnswerRequest) -> str:
    """Digest of the adapter that the request's model means now; empty: none."""
    return request.adapter.digest if request.adapter is not None else ""


def _began_under_another_adapter(entry: Entry, request: AnswerRequest) -> bool:
    """Whether the entry is of the same request, with another content of its adapter."""
    if entry.adapter == _adapter(request):
        return False
    return entry.digest == digest_of(request.endpoint.path, request.body, entry.adapter)


def _changed_adapter(request: AnswerRequest) -> AdapterChangedError:
    return AdapterChangedError(
        f"this answer was begun with another content of the adapter {request.parsed.model!r}; ask "
        "anew, without Last-Event-ID and with a new Idempotency-Key"
    )


def _owner(request: AnswerRequest) -> str:
    return request.caller.key_id or ""


def _idempotency_key(request: AnswerRequest) -> str | None:
    key = request.idempotency_key
    if key is not None and not _KEY.fullmatch(key):
        raise InvalidRequestError(
            "Idempotency-Key must have 1 to 255 visible ASCII characters", IDEMPOTENCY_KEY
        )
    return key


async def _wait_for(registry: AnswerRegistry, entry: Entry, request: AnswerRequest) -> None:
    """Wait until the handler that answers this entry is done.

    Raises:
        ClientGoneError: the client left first.
    """
    answer = registry.live(entry)
    if answer is not None:
        await unless_client_leaves(request.client_left, answer.closed.wait())
