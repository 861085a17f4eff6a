"""Answering a request: record or resume, cache, start, stream or collect."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from glmserve.api.answering.answer_context import AnswerContext
from glmserve.api.answering.client import ClientGoneError, ClientSignal, either
from glmserve.api.answering.context import ServerContext
from glmserve.api.answering.endpoint import AnswerRequest
from glmserve.api.answering.generation import Generation, WholeText
from glmserve.api.answering.outcome import AnswerStream, WholeAnswer
from glmserve.api.answering.record_or_resume import record_or_resume
from glmserve.api.answering.response_cache import JSON, KeptAnswer, cache_key
from glmserve.api.journaling.errors import StreamGoneError, StreamTakenOverError
from glmserve.api.journaling.journaled_answer import JournaledAnswer
from glmserve.errors import InvalidRequestError

CACHE_HEADER = "X-Glmserve-Cache"
"""`hit` on answers from the response cache, `miss` on others while there is a cache."""
REPLAYED_HEADER = "Idempotent-Replayed"
"""`true` on answers to requests that were accepted before; the name is Stripe's."""

_LONGEST_SILENCE = 10.0
"""Seconds after which a stream begins even without a token: proxies wait for a response's head."""


async def answer(server: ServerContext, request: AnswerRequest) -> WholeAnswer | AnswerStream:
    """Answer a request, or go on with its answer.

    A stream begins with its first token. Until then a failure is raised, so that the response can
    still have a status of its own.

    Raises:
        ClientGoneError: the client left.
        GlmserveError: the request cannot be honoured, or the generation failed.
    """
    adapter = await server.settle_model(request.parsed)
    with server.engine.adapters.held(adapter):
        return await _record_and_answer(server, replace(request, adapter=adapter))


async def _record_and_answer(
    server: ServerContext, request: AnswerRequest
) -> WholeAnswer | AnswerStream:
    """Answer a request whose model is settled."""
    server.apply_defaults(request.parsed)
    for check in request.endpoint.checks:
        check(request.parsed)
    is_recorded = request.is_recorded and request.endpoint.is_journaled
    registry = server.answers if is_recorded else None
    if registry is not None:
        return await _answer_journaled(server, request, await record_or_resume(registry, request))
    if request.last_event_id:
        raise StreamGoneError("this server keeps no journal of streams (--journal); ask anew")
    context = AnswerContext(request.caller, request.adapter, in_background=request.in_background)
    return await _answer(server, request, context)


async def _answer_journaled(
    server: ServerContext, request: AnswerRequest, journaled: JournaledAnswer
) -> WholeAnswer | AnswerStream:
    """Answer with a record, which is closed on every path: here, or with the outcome."""
    context = AnswerContext(request.caller, request.adapter, journaled.identity, journaled)
    try:
        outcome = await _answer(server, request, context)
    except BaseException as error:
        journaled.close(error)
        raise
    if isinstance(outcome, AnswerStream):
        return outcome
    if request.unfinished is not None:
        journaled.close()
        return outcome
    if journaled.is_resumed:
        outcome.headers[REPLAYED_HEADER] = "true"
    outcome.on_sent = journaled.delivered
    return outcome


async def _answer(
    server: ServerContext, request: AnswerRequest, context: AnswerContext
) -> WholeAnswer | AnswerStream:
    """Answer from the response cache, or generate."""
    cache = server.response_cache if request.endpoint.is_cacheable else None
    if cache is None or context.is_resumed:
        return await _generate(server, request, context, None)
    content = request.adapter.digest if request.adapter is not None else ""
    key = cache_key(request.caller, request.endpoint.path, request.parsed, content)
    if (kept := cache.find(key)) is not None:
        return WholeAnswer(kept.body, kept.media_type, {**dict(kept.headers), CACHE_HEADER: "hit"})

    def keep(answer: KeptAnswer) -> None:
        cache.add(key, answer._replace(headers=tuple(context.headers.items())))

    outcome = await _generate(server, request, context, keep)
    outcome.headers[CACHE_HEADER] = "miss"
    return outcome


async def _generate(
    server: ServerContext,
    request: AnswerRequest,
    context: AnswerContext,
    keep: Callable[[KeptAnswer], None] | None,
) -> WholeAnswer | AnswerStream:
    """Generate an answer, and stream or collect it.

    Args:
        keep: called with the answer when it is complete; None: it is not kept.
    """
    try:
        writer = await request.endpoint.start(server, request.parsed, context)
    except InvalidRequestError as error:
        raise error.renamed(request.endpoint.field_names) from None
    request.on_start(writer, context.headers)
    if request.is_stream:
        await _wait_first(writer.generation, request.client_left, context.journaled)
        stream = AnswerStream(writer, context.journaled, keep, has_ids=request.is_resumable)
        stream.headers.update(context.headers)
        return stream
    body = await writer.whole(await _collect(writer.generation, request, context.journaled))
    if keep is not None:
        keep(KeptAnswer(body, JSON))
    return WholeAnswer(body, headers=dict(context.headers))


async def _collect(
    generation: Generation, request: AnswerRequest, journaled: JournaledAnswer | None
) -> list[WholeText]:
    """All texts when they are complete, unless another server goes on with the answer meanwhile.

    Raises:
        StreamTakenOverError: it does.
        ClientGoneError, GlmserveError: see Generation.collect.
    """
    if journaled is None:
        return await generation.collect(request.client_left)
    texts = None
    try:
        texts = await generation.collect(either(request.client_left, journaled.superseded))
        await journaled.settle()
    except ClientGoneError:
        if not journaled.is_superseded:
            raise
    if texts is None or journaled.is_superseded:
        raise StreamTakenOverError("another server goes on with this answer")
    return texts


async def _wait_first(
    generation: Generation, client_left: ClientSignal, journaled: JournaledAnswer | None
) -> None:
    """Wait for the first token, unless a later connection goes on with the answer meanwhile.

    Raises:
        StreamTakenOverError: it does.
        ClientGoneError, GlmserveError: see Generation.wait_first.
    """
    if journaled is None:
        await generation.wait_first(client_left, _LONGEST_SILENCE)
        return
    try:
        await generation.wait_first(either(client_left, journaled.superseded), _LONGEST_SILENCE)
    except ClientGoneError:
        if not journaled.is_superseded:
            raise
    if journaled.is_superseded:
        generation.close()
        raise StreamTakenOverError("another connection goes on with this answer")
