"""The streams of all unfinished requests."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Protocol

from glmserve.cache import BlockPool
from glmserve.contract.step import INVALID_TOKEN_ID, RunnerInfo
from glmserve.engine.queue_timer import QueueTimer
from glmserve.engine.stats import EngineStats
from glmserve.engine.token_stream import TokenStream
from glmserve.errors import GlmserveError, NotReadyError, QueueTimeoutError
from glmserve.request import Request, RequestStatus
from glmserve.scheduler import TokenUpdate


class EngineObserver(Protocol):
    """Callbacks for the start of the runner and for the arrival and end of requests."""

    def begin(self, info: RunnerInfo, pool: BlockPool) -> None:
        """The runner is up.

        Args:
            pool: the blocks of its KV cache. It calls back when a block loses a prefix.
        """
        ...

    def arrived(self, requests: Sequence[Request]) -> None:
        """Requests were queued."""
        ...

    def ended(self, request: Request) -> None:
        """A request has ended."""
        ...


def _ignore(request: Request) -> None:
    """An on_end that does nothing."""


class OpenStreams:
    """Delivers tokens to streams, and reports first tokens and ends to the statistics.

    Args:
        stats: counts tokens and requests.
        observers: told about new and ended requests.
        abort: called to abort a request, with its finished status.
        queue_timeout: seconds that a request may wait to begin; 0: no limit.
        on_end: called with each request that has ended.
    """

    def __init__(
        self,
        stats: EngineStats,
        observers: Sequence[EngineObserver],
        abort: Callable[[Request, RequestStatus], None],
        queue_timeout: float,
        on_end: Callable[[Request], None] = _ignore,
    ) -> None:
        self._stats = stats
        self._observers = observers
        self._abort = abort
        self._queue_timeout = queue_timeout
        self._on_end = on_end
        self._timer = QueueTimer(queue_timeout, self._give_up_waiting)
        self._streams: dict[int, TokenStream] = {}  # by request id

    def open(self, requests: Sequence[Request]) -> list[TokenStream]:
        """Streams for new requests. A restored request may be finished already."""
        now = time.perf_counter()
        streams = [TokenStream(request, self.end, now) for request in requests]
        opened = [stream for stream in streams if not stream.request.status.is_finished]
        for stream in opened:
            self._streams[stream.request.id] = stream
            if not stream.request.in_background:
                self._timer.watch(stream.request.id)
        for observer in self._observers:
            observer.arrived([stream.request for stream in opened])
        return streams

    @property
    def live(self) -> list[TokenStream]:
        """Those that have not ended."""
        return list(self._streams.values())

    def begin(self, requests: Sequence[Request]) -> None:
        """Note when requests were given blocks."""
        if requests:
            now = time.perf_counter()
            for request in requests:
                stream = self._streams.get(request.id)
                if stream is None:
                    continue  # it was aborted before a step with it was begun
                if stream.begun is None:
                    stream.begun = now
                else:
                    stream.resumed.append(now)

    def note_lost_worker(self) -> None:
        """Note that the worker of all requests that have begun is lost."""
        now = time.perf_counter()
        for stream in self._streams.values():
            if stream.begun is not None:
                stream.worker_losses.append(now)

    def deliver(self, updates: list[TokenUpdate]) -> None:
        """Push a step's tokens to their streams."""
        if not updates:
            return
        now = time.perf_counter()
        num_later: dict[float, int] = {}  # tokens other than first ones, by the time of the last
        for update in updates:
            request, token_id = update.request, update.token_id
            stream = self._streams[request.id]
            if token_id is None:
                stream.end()
            elif token_id == INVALID_TOKEN_ID:
                stream.fail(GlmserveError("the model produced numbers that are not finite"))
            else:
                last = stream.last_token
                if last is None:
                    self._note_first(stream, now)
                elif not request.in_background:
                    num_later[last] = num_later.get(last, 0) + 1
                stream.push(token_id, update.logprobs, now)
            if update.is_last:
                self._close(stream, now)
        for last, count in num_later.items():
            self._stats.inter_token(now - last, count)

    def end(self, request: Request, status: RequestStatus) -> None:
        """End a request for its consumer, unless it has already ended."""
        stream = self._streams.get(request.id)
        if stream is not None and not request.status.is_finished:
            self._abort(request, status)
            self._close(stream, time.perf_counter())

    def fail(self, request: Request, error: GlmserveError) -> None:
        """End one request with an error."""
        stream = self._streams.get(request.id)
        if stream is not None:
            self.end(request, RequestStatus.FINISHED_ERROR)
            stream.fail(error)

    def fail_waiting(self, error: NotReadyError) -> None:
        """Fail all requests of answers that have not begun."""
        for stream in [s for s in self._streams.values() if not s.has_begun]:
            self.fail(stream.request, error)

    def fail_all(self, error: GlmserveError) -> None:
        """Fail all streams. No more tokens will come."""
        for stream in self._streams.values():
            stream.request.status = RequestStatus.FINISHED_ERROR
            stream.fail(error)
        self._streams.clear()
        self._timer.close()

    def _note_first(self, stream: TokenStream, now: float) -> None:
        stream.first_token = now
        if not stream.request.in_background:
            self._stats.first_token(now - stream.arrival)
        self._timer.forget(stream.request.id)

    def _close(self, stream: TokenStream, now: float) -> None:
        request = stream.request
        del self._streams[request.id]
        self._timer.forget(request.id)
        self._stats.request_done(stream, now)
        self._on_end(request)
        for observer in self._observers:
            observer.ended(request)

    def _give_up_waiting(self, request_id: int) -> None:
        """Fail a request that waited too long, unless another choice of its answer has begun."""
        stream = self._streams[request_id]
        if not stream.has_begun:
            self.fail(
                stream.request,
                QueueTimeoutError(
                    f"this request has waited for --queue-timeout {self._queue_timeout:g} seconds, "
                    "and others are still before it; try again later"
                ),
            )
