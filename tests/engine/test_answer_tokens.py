"""The streams of one answer merged into one order."""

from __future__ import annotations

import asyncio
import gc
import weakref

import pytest

from glmserve.engine import AnswerTokens, NewTokens, TokenStream
from glmserve.errors import GlmserveError
from glmserve.request import Request, RequestStatus, SamplingParams


def streams(count: int) -> list[TokenStream]:
    params = SamplingParams(max_tokens=1000)
    return [
        TokenStream(Request(i, [1], params), lambda request, status: None, 0.0)
        for i in range(count)
    ]


def push(stream: TokenStream, *token_ids: int) -> None:
    for token_id in token_ids:
        stream.push(token_id, None, 0.0)


def finish(stream: TokenStream) -> None:
    stream.request.status = RequestStatus.FINISHED_LENGTH
    stream.end()


async def test_choices_come_in_the_order_of_their_news() -> None:
    a, b, c = streams(3)
    merged = AnswerTokens([a, b, c])
    push(c, 1)
    push(a, 2)
    push(c, 3)
    finish(b)
    assert [await merged.next() for _ in range(3)] == [
        (2, NewTokens([1, 3], [])),
        (0, NewTokens([2], [])),
        (1, NewTokens([], [])),
    ]


async def test_tokens_wake_the_consumer() -> None:
    a, b = streams(2)
    merged = AnswerTokens([a, b])
    waiting = asyncio.ensure_future(merged.next())
    await asyncio.sleep(0)
    assert not waiting.done()
    push(b, 5)
    assert await waiting == (1, NewTokens([5], []))


async def test_a_long_text_does_not_delay_the_other_choice() -> None:
    a, b = streams(2)
    push(a, *range(600))
    merged = AnswerTokens([a, b])
    push(b, 7)
    taken = [await merged.next() for _ in range(4)]
    assert [choice for choice, _ in taken] == [0, 1, 0, 0]
    tokens = [token for choice, new in taken if choice == 0 for token in new.token_ids]
    assert tokens == list(range(600))


async def test_the_end_follows_the_last_token() -> None:
    (a,) = streams(1)
    merged = AnswerTokens([a])
    a.request.status = RequestStatus.FINISHED_LENGTH  # as the scheduler sets it, before delivery
    push(a, 1)
    assert await merged.next() == (0, NewTokens([1], []))
    assert await merged.next() == (0, NewTokens([], []))


async def test_what_arrived_before_the_streams_were_merged_is_not_lost() -> None:
    a, b = streams(2)
    push(b, 3)
    finish(a)
    merged = AnswerTokens([a, b])
    assert [await merged.next() for _ in range(2)] == [
        (0, NewTokens([], [])),
        (1, NewTokens([3], [])),
    ]


async def test_waiting_for_the_first_token_raises_a_failure_before_it() -> None:
    a, b = streams(2)
    merged = AnswerTokens([a, b])
    waiting = asyncio.ensure_future(merged.wait_first())
    await asyncio.sleep(0)
    b.fail(GlmserveError("too late"))
    with pytest.raises(GlmserveError, match="too late"):
        await waiting


async def test_a_failure_comes_behind_the_tokens_before_it() -> None:
    a, b = streams(2)
    merged = AnswerTokens([a, b])
    push(a, 1)
    a.fail(GlmserveError("broken"))
    await merged.wait_first()
    assert await merged.next() == (0, NewTokens([1], []))
    with pytest.raises(GlmserveError, match="broken"):
        await merged.next()


async def test_all_requests_of_an_answer_know_each_other() -> None:
    a, b = streams(2)
    AnswerTokens([a, b])
    assert a.answer == b.answer == [a.request, b.request]


async def test_closed_streams_need_no_garbage_collection() -> None:
    """Their prompts may be long, and the collector counts objects, not bytes."""
    both = streams(2)
    merged = AnswerTokens(both)
    remembered = [weakref.ref(stream) for stream in both]
    merged.close()
    gc.disable()
    try:
        del both, merged
        assert all(stream() is None for stream in remembered)
    finally:
        gc.enable()
