"""Consumers that take their time: what they have not taken yet is merged, and holds up nobody."""

from __future__ import annotations

import asyncio

import msgspec
import pytest

from glmserve.api.answering.generation import Choice, ChoiceDelta, Generation
from glmserve.engine import ChoiceSpec
from glmserve.request import SamplingParams
from glmserve.text.text_assembler import TextAssembler
from support.fake_server import serve
from support.fakes import LIMITS, FakeRunner, expected_output
from support.token_streams import next_tokens

NUM_TOKENS = 100
PROMPT = [10, 20, 30]


@pytest.mark.parametrize("num_choices", [1, 5])
async def test_what_nobody_takes_is_merged(num_choices: int) -> None:
    params = SamplingParams(max_tokens=NUM_TOKENS)
    async with serve() as app:
        context = app.state.context
        streams = context.engine.submit_group(PROMPT, [ChoiceSpec(params, None)] * num_choices)
        choices = [Choice(s, TextAssembler(params, context.tokenizer)) for s in streams]
        generation = Generation([choices])
        deltas = generation.deltas()
        taken = [await anext(deltas)]
        while not all(s.request.status.is_finished for s in streams):
            await asyncio.sleep(0)
        taken += [delta async for delta in deltas]
    # Behind the first: what stands in the queue, what waits to get there, what was merged, an end.
    assert len(taken) <= 1 + 4 * num_choices
    for number in range(num_choices):
        assert tokens_of(taken, number) == expected_output(PROMPT, NUM_TOKENS)


def tokens_of(deltas: list[ChoiceDelta], number: int) -> list[int]:
    mine = [d.delta for d in deltas if d.number == number and d.delta is not None]
    return [token for delta in mine for token in delta.token_ids]


async def test_what_was_merged_comes_in_portions() -> None:
    """A portion is worked on at a stretch, and everybody waits meanwhile."""
    params = SamplingParams(max_tokens=1000)
    limits = msgspec.structs.replace(LIMITS, num_blocks=1024, max_context=2048)
    async with serve(FakeRunner(limits)) as app:
        stream = app.state.context.engine.submit(PROMPT, params)
        while not stream.request.status.is_finished:
            await asyncio.sleep(0)
        portions = []
        while tokens := (await next_tokens(stream)).token_ids:
            portions.append(len(tokens))
        assert portions == [256, 256, 256, 232]
