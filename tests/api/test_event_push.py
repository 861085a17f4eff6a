"""Events that callbacks of the event loop write: all of them, in order, and only while the client
reads."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from glmserve.api.answering.event_push import push_events
from glmserve.api.answering.generation import Choice, ChoiceDelta, Generation, WholeText
from glmserve.api.answering.outcome import AnswerStream
from glmserve.engine import TokenStream
from glmserve.errors import GlmserveError
from glmserve.request import Request, RequestStatus, SamplingParams
from glmserve.text.text_assembler import TextAssembler
from support.fakes import ByteTokenizer

TEXT = "abcdefgh"
ACTIONS = st.lists(st.sampled_from(["token", "other token", "pause", "go on", "turn"]), max_size=40)


class PlainWriter:
    """Events that say the choice and its text."""

    def __init__(self, generation: Generation) -> None:
        self.generation = generation

    def opening(self) -> Iterator[bytes]:
        yield b"<"

    def push(self, deltas: Sequence[ChoiceDelta]) -> list[bytes]:
        return [
            f"[{number}]".encode() if delta is None else f"{number}{delta.text};".encode()
            for number, delta in deltas
        ]

    def closing(self) -> Iterator[bytes]:
        yield b">"

    def failure(self, error: GlmserveError) -> list[bytes]:
        return [error.message.encode()]

    async def whole(self, texts: Sequence[WholeText]) -> bytes:
        raise NotImplementedError


class Sink:
    """Takes events while it is not paused."""

    def __init__(self) -> None:
        self.takes_more = True
        self.written: list[bytes] = []

    def write(self, data: bytes) -> None:
        assert self.takes_more
        assert data
        self.written.append(data)

    def call_soon(self, callback: Callable[[], None]) -> None:
        asyncio.get_running_loop().call_soon(callback)


class Answer:
    """A stream of two choices, and the loop of a response that sends it."""

    def __init__(self, num_choices: int = 2) -> None:
        choices = [_choice(number) for number in range(num_choices)]
        self.tokens = [choice.tokens for choice in choices]
        self._left = [list(TEXT.encode()) for _ in choices]
        self.stream = AnswerStream(PlainWriter(Generation([choices])), None, None)
        self.sink = Sink()
        self.sending = asyncio.create_task(self._send())
        self.num_sent = 0
        """Pieces that were sent in the ordinary way."""

    async def _send(self) -> None:
        while not self.stream.is_over:
            await self.stream.wait()
            data = self.stream.take_all()
            while not self.sink.takes_more:
                await asyncio.sleep(0)
            self.num_sent += 1
            self.sink.written.append(data)
            await push_events(self.stream, self.sink)

    def generate(self, number: int) -> None:
        """Deliver the next token of a choice, if there is one."""
        tokens = self.tokens[number]
        if self._left[number]:
            token = self._left[number].pop(0)
            tokens.request.status = tokens.request.append(token) or tokens.request.status
            tokens.push(token, None, 0.0)

    async def finish(self) -> str:
        """Deliver what is left; everything that was written."""
        for number, left in enumerate(self._left):
            while left:
                self.generate(number)
        self.sink.takes_more = True
        await self.sending
        return b"".join(self.sink.written).decode()


def _choice(number: int) -> Choice:
    params = SamplingParams(max_tokens=len(TEXT))
    request = Request(number, [1], params)

    def close(request: Request, status: RequestStatus) -> None:
        request.status = status

    return Choice(TokenStream(request, close, 0.0), TextAssembler(params, ByteTokenizer()))


async def turns(count: int = 4) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


def texts_of(written: str) -> list[str]:
    """The texts of both choices; checks how the stream begins and ends."""
    assert written.startswith("<") and written.endswith(">")
    texts = ["", ""]
    for event in written[1:-1].replace("]", "];").split(";")[:-1]:
        if event.startswith("["):
            texts[int(event[1])] += "|"
        else:
            texts[int(event[0])] += event[1:]
    return texts


@given(ACTIONS)
def test_whatever_the_order_all_is_written_once(actions: list[str]) -> None:
    async def run() -> str:
        answer = Answer()
        for action in actions:
            match action:
                case "token":
                    answer.generate(0)
                case "other token":
                    answer.generate(1)
                case "pause":
                    answer.sink.takes_more = False
                case "go on":
                    answer.sink.takes_more = True
                case "turn":
                    await turns()
        return await answer.finish()

    assert texts_of(asyncio.run(run())) == [TEXT + "|", TEXT + "|"]


async def test_while_the_client_reads_no_task_wakes() -> None:
    answer = Answer()
    answer.generate(0)
    await turns()
    sent = answer.num_sent
    for _ in range(3):
        answer.generate(0)
        answer.generate(1)
        await turns()
    assert answer.sink.written[-3:] == [b"0b;1a;", b"0c;1b;", b"0d;1c;"]  # one write for each step
    assert answer.num_sent == sent
    await answer.finish()


async def test_what_comes_while_the_client_does_not_read_is_merged() -> None:
    answer = Answer(1)
    answer.generate(0)
    await turns()
    answer.sink.takes_more = False
    num_written = len(answer.sink.written)
    for _ in range(5):
        answer.generate(0)
        await turns()
    assert len(answer.sink.written) == num_written
    answer.sink.takes_more = True
    await turns()
    # The first token was taken before the sender had to wait.
    assert b"".join(answer.sink.written[num_written:]) == b"0b;0cdef;"
    await answer.finish()


async def test_a_failure_becomes_the_last_event() -> None:
    answer = Answer(1)
    answer.generate(0)
    await turns()
    answer.tokens[0].fail(GlmserveError("broken"))
    await answer.sending
    assert b"".join(answer.sink.written) == b"<0a;broken"


async def test_an_unexpected_error_reaches_the_sender() -> None:
    answer = Answer(1)
    answer.generate(0)
    await turns()

    def broken(data: bytes) -> None:
        raise ZeroDivisionError

    answer.sink.write = broken  # type: ignore[method-assign]
    answer.generate(0)
    with pytest.raises(ZeroDivisionError):
        await answer.sending


async def test_a_sender_that_is_cancelled_writes_no_more() -> None:
    answer = Answer(1)
    answer.generate(0)
    await turns()
    num_written = len(answer.sink.written)
    answer.generate(0)  # its callback is under way
    answer.sending.cancel()
    await turns()
    answer.generate(0)
    await turns()
    assert len(answer.sink.written) == num_written
    assert answer.sending.cancelled()
