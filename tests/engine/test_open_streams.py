"""When requests were given blocks, and when their worker was lost."""

from __future__ import annotations

from glmserve.engine.open_streams import OpenStreams
from glmserve.engine.stats import EngineStats
from glmserve.request import Request, SamplingParams


def open_streams() -> OpenStreams:
    return OpenStreams(EngineStats(), (), lambda request, status: None, 0)


def request(number: int) -> Request:
    return Request(number, [1, 2], SamplingParams(max_tokens=3))


def test_blocks_that_are_given_once_and_again() -> None:
    streams, (first, second) = open_streams(), (request(0), request(1))
    begun, waiting = streams.open([first, second])
    streams.begin([first])
    streams.note_lost_worker()
    streams.begin([first])
    assert begun.begun is not None
    assert len(begun.worker_losses) == len(begun.resumed) == 1
    assert begun.begun <= begun.worker_losses[0] <= begun.resumed[0]
    assert (waiting.begun, waiting.worker_losses, waiting.resumed) == (None, [], [])


def test_a_request_that_was_aborted_meanwhile_is_passed_over() -> None:
    open_streams().begin([request(0)])
