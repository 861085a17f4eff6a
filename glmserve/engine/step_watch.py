"""What the engine does, for the board: merged by tenths of seconds, without content."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterable, Sequence

from glmserve.cache import BlockPool
from glmserve.contract.step import RunnerInfo, StepInput, StepOutput
from glmserve.engine.moment import Moment
from glmserve.engine.moment_builder import MomentBuilder, facts_of
from glmserve.engine.token_stream import TokenStream
from glmserve.request import Request, RequestStatus
from glmserve.scheduler import Scheduler

INTERVAL = 0.1
"""Seconds that one Moment merges."""
_BLOCKS_EVERY = 5
"""Moments between two maps of the blocks."""
_MOST_CELLS = 4096
"""Blocks of a map; of a larger cache, every n-th block is shown."""
_MOST_UNREAD = 100
"""Moments that wait for a slow reader before its stream is ended."""


class StepWatch:
    """Merges steps for readers. While there are none, a step costs one look at `is_on`."""

    def __init__(self) -> None:
        self._readers: set[asyncio.Queue[Moment | None]] = set()
        self._scheduler: Scheduler | None = None
        self._live: Callable[[], Iterable[TokenStream]] = tuple
        self._is_over: Callable[[], bool] = bool
        self._info: RunnerInfo | None = None
        self._pool: BlockPool | None = None
        self._count = 0
        self._builder: MomentBuilder | None = None

    @property
    def is_on(self) -> bool:
        """Whether there are readers."""
        return self._builder is not None

    def attach(
        self,
        live: Callable[[], Iterable[TokenStream]],
        scheduler: Scheduler,
        is_over: Callable[[], bool],
    ) -> None:
        """Say where to look.

        Args:
            live: the streams that have not ended.
            scheduler: its numbers and blocks are shown.
            is_over: whether readers should leave, because the server is about to end.
        """
        self._live, self._scheduler, self._is_over = live, scheduler, is_over

    def begin(self, info: RunnerInfo, pool: BlockPool) -> None:
        """The runner is up."""
        self._info, self._pool = info, pool
        if self._builder is not None:
            self._follow_blocks(self._builder)

    def arrived(self, requests: Sequence[Request]) -> None:
        """Requests were queued."""
        if self._builder is not None:
            self._builder.arrived(requests)

    def ended(self, request: Request) -> None:
        """A request has ended."""
        if self._builder is not None:
            self._builder.ended(request)

    def lost(self) -> None:
        """The runner was lost."""
        if self._builder is not None:
            self._builder.lost()

    def stepped(self, step: StepInput, output: StepOutput, seconds: float) -> None:
        """A step is done. Called only while `is_on`.

        Args:
            seconds: since the step began or the one before it ended.
        """
        if self._builder is not None:
            self._builder.stepped(step, output, seconds)

    async def read(self) -> AsyncIterator[Moment]:
        """Moments from now on; the first one has all requests that have not ended."""
        queue: asyncio.Queue[Moment | None] = asyncio.Queue(_MOST_UNREAD)
        if self._builder is None:
            self._turn_on()
        self._readers.add(queue)
        try:
            yield self._present()
            while (moment := await queue.get()) is not None:
                yield moment
        finally:
            self._readers.discard(queue)
            if not self._readers:
                self._turn_off()

    def _turn_on(self) -> None:
        builder = self._builder = MomentBuilder(self._live())
        self._follow_blocks(builder)
        self._ticking = asyncio.create_task(self._tick(builder))

    def _follow_blocks(self, builder: MomentBuilder) -> None:
        if self._pool is not None:
            self._pool.on_hit.append(builder.hit)
            self._pool.on_eviction.append(builder.evicted)

    def _turn_off(self) -> None:
        builder, self._builder = self._builder, None
        if builder is None:
            return
        self._ticking.cancel()
        if self._pool is not None:
            self._pool.on_hit.remove(builder.hit)
            self._pool.on_eviction.remove(builder.evicted)

    def _present(self) -> Moment:
        arrived = [facts_of(s.request, s.arrival, s.begun) for s in self._live()]
        return self._described(Moment(arrived=arrived), has_blocks=True)

    def _described(self, moment: Moment, has_blocks: bool) -> Moment:
        moment.time = time.perf_counter()
        moment.preempted = [
            stream.request.id
            for stream in self._live()
            if stream.request.status is RequestStatus.PREEMPTED
        ]
        if self._scheduler is None or self._info is None:
            return moment
        moment.stats = self._scheduler.stats._asdict()
        if has_blocks:
            held = self._scheduler.block_map(_MOST_CELLS)
            moment.blocks, moment.shared, moment.roots = held
        limits = self._info.limits
        moment.num_blocks, moment.block_size = limits.num_blocks, limits.block_size
        moment.weight_bytes = self._info.weight_bytes
        moment.token_bytes = self._info.kv_cache_bytes / (limits.num_blocks * limits.block_size)
        return moment

    async def _tick(self, builder: MomentBuilder) -> None:
        while True:
            await asyncio.sleep(INTERVAL)
            self._count += 1
            moment = self._described(
                builder.take(self._blocks_of_a_cell), self._count % _BLOCKS_EVERY == 0
            )
            for queue in [*self._readers]:
                if queue.full() or self._is_over():
                    self._readers.discard(queue)
                    while queue.full():
                        queue.get_nowait()
                    queue.put_nowait(None)
                else:
                    queue.put_nowait(moment)

    @property
    def _blocks_of_a_cell(self) -> int:
        """Every so many blocks, the map shows one."""
        return -(-self._info.limits.num_blocks // _MOST_CELLS) if self._info is not None else 1
