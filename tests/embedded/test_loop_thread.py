"""The thread with an event loop, and exceptions that come at any place of a call."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable

import pytest

from glmserve.embedded.loop_thread import LoopThread


async def nothing() -> None:
    """Ends at once."""


@pytest.fixture
def thread() -> LoopThread:
    return LoopThread()


@pytest.mark.parametrize("is_sent", [True, False], ids=["after it was sent", "before"])
def test_an_interrupt_while_a_call_is_sent_cancels_it(
    thread: LoopThread, is_sent: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    ended = threading.Event()

    async def items() -> AsyncIterator[int]:
        try:
            yield 1
            await asyncio.sleep(60)
        finally:
            ended.set()

    iterator = thread.iterate(items)
    assert next(iterator) == 1
    loop = thread._loop.result()
    send = loop.call_soon_threadsafe

    def interrupted(callback: Callable[[], None]) -> None:
        monkeypatch.setattr(loop, "call_soon_threadsafe", send)
        if is_sent:
            send(callback)
        raise KeyboardInterrupt

    monkeypatch.setattr(loop, "call_soon_threadsafe", interrupted)
    with pytest.raises(KeyboardInterrupt):
        next(iterator)
    assert ended.wait(30)
    thread.end(nothing())


def test_results_and_errors_are_passed_on(thread: LoopThread) -> None:
    async def fail() -> None:
        raise ValueError("no")

    assert thread.run(asyncio.sleep(0, "yes")) == "yes"
    with pytest.raises(ValueError, match="no"):
        thread.run(fail())
    thread.end(nothing())
