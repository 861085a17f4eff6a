"""The order of events among choices: an event id names the same event however often it is read."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from glmserve.api.answering.answer_context import AnswerContext
from glmserve.api.answering.generation import Choice, ChoiceDelta, Generation
from glmserve.api.journaling.journaled_answer import JournaledAnswer
from glmserve.engine import TokenStream
from glmserve.journal import Delta, Entry, Record
from glmserve.request import Progress, Request, RequestStatus, SamplingParams
from glmserve.text.text_assembler import TextAssembler, TextOptions
from support.fakes import ByteTokenizer

STOP = "##"
TEXTS = st.lists(st.text("ab#", min_size=1, max_size=7), min_size=2, max_size=4)
SCHEDULE = st.lists(st.integers(0, 7), max_size=40)
"""Each number lets a choice get a token (its index), or the consumer take a delta (others)."""


class MemoryJournal:
    """A journal in memory; its commits are done at once."""

    def __init__(self, deltas: Sequence[Delta]) -> None:
        self.deltas = list(deltas)

    def begin(self, entry: Entry, body: bytes) -> None: ...

    def record(self, entry: Entry, delta: Delta) -> None:
        self.deltas.append(delta)


class Answer:
    """An answer that is generated under a schedule, after what its record has."""

    def __init__(self, texts: Sequence[str], recorded: Sequence[Delta] = ()) -> None:
        self.events: list[ChoiceDelta] = []
        self.num_deltas: list[int] = []
        """Recorded deltas at each event, as an event id has them."""
        self.journal = MemoryJournal(recorded)
        journal: Any = self.journal
        journaled = JournaledAnswer(journal, entry(), b"" if not recorded else None, 0, print)
        if recorded:
            journaled.restore(Record(b"", list(recorded)))
        progress = journaled.progress(range(len(texts)))
        choices = [choice(text, of) for text, of in zip(texts, progress, strict=True)]
        self._left = [
            list(text.encode())[c.request.num_output_tokens :]
            for text, c in zip(texts, choices, strict=True)
        ]
        journaled.begin([[c.request for c in choices]])
        self._generation = Generation([choices], AnswerContext(journaled=journaled))

    async def run(self, schedule: Sequence[int]) -> None:
        deltas = self._generation.deltas()
        for action in schedule:
            if action < len(self._left):
                self._generate(action)
            else:
                await self._take(deltas)
        for index, left in enumerate(self._left):
            while left:
                self._generate(index)
        while await self._take(deltas):
            pass

    def _generate(self, index: int) -> None:
        tokens = self._generation.choices[index].tokens
        if self._left[index] and not tokens.request.status.is_finished:
            token = self._left[index].pop(0)
            status = tokens.request.append(token)
            tokens.request.status = status or tokens.request.status
            tokens.push(token, None, 0.0)
        else:
            self._left[index].clear()

    async def _take(self, deltas: Any) -> bool:
        """Take a delta if there is one now."""
        try:
            taking = asyncio.ensure_future(anext(deltas))
            for _ in range(3):
                await asyncio.sleep(0)
            if not taking.done():
                # Let the next token finish it: an async generator cannot be asked twice.
                await self._finish(taking)
            event = await taking
        except StopAsyncIteration:
            return False
        self.events.append(event)
        self.num_deltas.append(len(self.journal.deltas))
        return True

    async def _finish(self, taking: asyncio.Future[ChoiceDelta]) -> None:
        for index, left in enumerate(self._left):
            while left and not taking.done():
                self._generate(index)
                await asyncio.sleep(0)
                await asyncio.sleep(0)


def entry() -> Entry:
    return Entry(
        id=1,
        stream_id="0" * 32,
        owner="",
        path="/",
        digest=b"",
        is_stream=True,
        idempotency_key=None,
        created=0.0,
    )


def choice(text: str, progress: Progress) -> Choice:
    params = SamplingParams(max_tokens=len(text))
    request = Request(0, [1], params)
    request.restore(progress)

    def close(request: Request, status: RequestStatus) -> None:
        if not request.status.is_finished:
            request.status = status

    tokens = TokenStream(request, close, 0.0)
    return Choice(tokens, TextAssembler(params, ByteTokenizer(), TextOptions((STOP,))))


@settings(max_examples=300)
@given(TEXTS, SCHEDULE, SCHEDULE, st.integers(0, 30))
def test_what_is_read_again_comes_in_the_same_order(
    texts: list[str], first: list[int], second: list[int], cut: int
) -> None:
    async def run() -> None:
        original = Answer(texts)
        await original.run(first)
        kept = original.journal.deltas[:cut]
        resumed = Answer(texts, kept)
        await resumed.run(second)
        known = sum(num_deltas <= len(kept) for num_deltas in original.num_deltas)
        assert resumed.events[:known] == original.events[:known]
        assert texts_of(resumed.events) == texts_of(original.events)
        again = Answer(texts, resumed.journal.deltas)
        await again.run([])
        assert again.events == resumed.events
        assert again.journal.deltas == resumed.journal.deltas

    asyncio.run(run())


def texts_of(events: Sequence[ChoiceDelta]) -> dict[int, str]:
    texts: dict[int, str] = {}
    for number, delta in events:
        texts[number] = texts.get(number, "") + (delta.text if delta is not None else "|end")
    return texts
