"""Tokens to text as one request's reader sees it, however late it reads."""

from __future__ import annotations

import pytest

from glmserve.contract.step import Logprobs
from glmserve.engine import NewTokens, TokenStream
from glmserve.request import Request, RequestStatus, SamplingParams
from glmserve.text.text_stream import TextOptions, TextStream
from support.fakes import ByteTokenizer


def stream_of(
    text: str, at_once: int, stop: list[str], *, scored: bool = False, **fields: int
) -> TextStream:
    """A finished request whose tokens are the bytes of `text`, delivered `at_once` per read."""
    params = SamplingParams(max_tokens=len(text), stop_token_ids=frozenset({256}), **fields)
    request = Request(0, [1], params)
    request.status = RequestStatus.FINISHED_LENGTH
    tokens = TokenStream(request, lambda request, status: None, arrival=0.0)
    data = list(text.encode())
    batches = [data[i : i + at_once] for i in range(0, len(data), at_once)]

    async def next_tokens() -> NewTokens:
        ids = batches.pop(0) if batches else []
        return NewTokens(ids, [Logprobs(float(-i), [], []) for i in ids] if scored else [])

    tokens.next_tokens = next_tokens  # type: ignore[method-assign]
    return TextStream(tokens, ByteTokenizer(), TextOptions(tuple(stop)))


@pytest.mark.parametrize("at_once", [1, 2, 7, 100])
async def test_what_counts_does_not_depend_on_how_late_it_is_read(at_once: int) -> None:
    stream = stream_of("abc STOP and more that nobody asked for", at_once, ["STOP"])
    deltas = [delta async for delta in stream]
    assert "".join(delta.text for delta in deltas) == "abc "
    assert bytes(i for delta in deltas for i in delta.token_ids) == b"abc STOP"
    assert stream.num_output_tokens == 8
    assert stream.finish_reason == "stop"


@pytest.mark.parametrize("at_once", [1, 3, 100])
async def test_held_back_text_comes_at_the_end(at_once: int) -> None:
    stream = stream_of("abc STO", at_once, ["STOP"])
    deltas = [delta async for delta in stream]
    assert "".join(delta.text for delta in deltas) == "abc STO"
    assert stream.num_output_tokens == 7
    assert stream.finish_reason == "length"


@pytest.mark.parametrize("at_once", [1, 2, 7, 100])
async def test_scored_tokens_are_those_of_the_text(at_once: int) -> None:
    """Nothing of a stop string shows through them, and no token comes before its text."""
    stream = stream_of("ab ST cd STOP more", at_once, ["STOP"], scored=True)
    text, scored = "", []
    async for delta in stream:
        text += delta.text
        scored += delta.scored
        assert len(scored) <= len(text)
    assert text == "ab ST cd "
    assert bytes(token.token_id for token in scored) == text.encode()
    assert all(token.logprobs.logprob == -token.token_id for token in scored)


async def test_scored_tokens_held_back_come_at_the_end() -> None:
    stream = stream_of("abc STO", 1, ["STOP"], scored=True)
    scored = [token.token_id async for delta in stream for token in delta.scored]
    assert bytes(scored) == b"abc STO"


@pytest.mark.parametrize("at_once", [1, 100])
async def test_stop_strings_wait_for_the_least_number_of_tokens(at_once: int) -> None:
    stream = stream_of("a.b.c.d", at_once, ["."], min_tokens=3)
    assert "".join([delta.text async for delta in stream]) == "a.b"
