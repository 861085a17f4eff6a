"""Which adapters the runner holds: requests pin theirs, and idle ones make room for others.

A request that finds no room waits until its adapter is loaded. The requests wait in one line, and
no later one overtakes them, not even for an adapter that is loaded: otherwise a busy adapter would
keep its place for ever. Requests in the background stand behind all others. Requests for the plain
model never wait here.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter, OrderedDict, deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from glmserve.engine.adapters.stats import AdapterStats
from glmserve.engine.adapters.version import AdapterVersion
from glmserve.errors import (
    AdapterError,
    AdapterUnavailableError,
    EngineDeadError,
    GlmserveError,
    WorkerLostError,
)
from glmserve.executor import Executor
from glmserve.request import Request

logger = logging.getLogger(__name__)


@dataclass(eq=False)
class _Slot:
    """A place of the runner, with the adapter that it holds or loads."""

    version: AdapterVersion
    users: dict[int, Request] = field(default_factory=dict)
    """By id: the requests that pin the adapter."""
    is_loaded: bool = False
    is_loading: bool = False
    """Whether an answer of the runner is awaited."""
    watchers: list[asyncio.Future[None]] = field(default_factory=list)
    """Done when the adapter is loaded or refused."""

    @property
    def is_idle(self) -> bool:
        return self.is_loaded and not self.users


@dataclass(eq=False)
class _Waiter:
    """Requests of one answer, or an operator, that wait for a slot."""

    version: AdapterVersion
    requests: dict[int, Request]
    watcher: asyncio.Future[None] | None = None
    """The operator's."""

    @property
    def in_background(self) -> bool:
        return any(request.in_background for request in self.requests.values())


class AdapterSlots:
    """Loads adapters into a runner and removes them. Everything here runs on the event loop.

    Args:
        executor: of the runner.
        on_ready: called with requests whose adapter is loaded.
        on_refused: called with a request whose adapter cannot be loaded, and the error.
    """

    def __init__(
        self,
        executor: Executor,
        on_ready: Callable[[Sequence[Request]], None],
        on_refused: Callable[[Request, GlmserveError], None],
    ) -> None:
        self.capacity = 0
        """Adapters that the runner holds at a time; set when it is up."""
        self.stats = AdapterStats(self)
        self._executor = executor
        self._on_ready = on_ready
        self._on_refused = on_refused
        self._slots: OrderedDict[int, _Slot] = OrderedDict()  # by id, the least recently used first
        self._waiters: deque[_Waiter] = deque()
        self._waiter_of: dict[int, _Waiter] = {}  # by request id
        self._slot_of: dict[int, _Slot] = {}  # by request id
        self._discarded: set[int] = set()  # ids whose slot is freed with their last request
        self._holds: Counter[int] = Counter()  # by id: requests that are still being prepared
        self._tasks: set[asyncio.Task[None]] = set()

    @contextmanager
    def held(self, version: AdapterVersion | None) -> Iterator[None]:
        """Keep an adapter while a request that has found it is prepared, and may `enter` at the
        end: if it is discarded meanwhile, its slot is freed later. None: the plain model.

        If others find no slot at all, they take this one, as any idle one.
        """
        if version is None:
            yield
            return
        self._holds[version.id] += 1
        try:
            yield
        finally:
            self._holds[version.id] -= 1
            if not self._holds[version.id]:
                del self._holds[version.id]
            self._sweep(version.id)
            self._advance()

    def enter(self, version: AdapterVersion, requests: Sequence[Request]) -> None:
        """Pin an adapter for requests. `on_ready` is called when it is loaded, perhaps at once.

        Each of the requests must `leave` at its end.
        """
        waiter = _Waiter(version, {request.id: request for request in requests})
        self._waiter_of |= dict.fromkeys(waiter.requests, waiter)
        self._line_up(waiter)

    def leave(self, request: Request) -> None:
        """A request has ended. One without an adapter is ignored."""
        if (waiter := self._waiter_of.pop(request.id, None)) is not None:
            del waiter.requests[request.id]
            if not waiter.requests:
                self._waiters.remove(waiter)
            self._sweep(waiter.version.id)
        elif (slot := self._slot_of.pop(request.id, None)) is not None:
            del slot.users[request.id]
            self._sweep(slot.version.id)
        else:
            return
        self._advance()

    async def load(self, version: AdapterVersion) -> None:
        """Load an adapter that no request asks for yet, when its turn comes. It may be removed
        again when others need its slot.

        Raises:
            AdapterError: the runner refuses it.
            EngineDeadError: the runner is gone.
        """
        self.check_capacity()
        loaded: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        waiter = _Waiter(version, {}, loaded)
        self._line_up(waiter)
        try:
            await loaded
        except asyncio.CancelledError:
            if waiter in self._waiters:
                self._waiters.remove(waiter)
                self._advance()
            raise

    def discard(self, version: AdapterVersion) -> None:
        """Free an adapter's slot when its last request has ended: no new one will come."""
        self._discarded.add(version.id)
        self._sweep(version.id)
        self._advance()

    def check_capacity(self) -> None:
        """Check that the runner holds adapters at all.

        Raises:
            AdapterError: it does not.
        """
        if not self.capacity:
            raise AdapterError(
                "this server was started without room for adapters; start it with --max-adapters"
            )

    async def reload(self) -> None:
        """Load all adapters into a new runner. Requests fail whose adapter cannot be loaded.

        Raises:
            WorkerLostError: the new runner is lost, too.
            EngineDeadError: it cannot be replaced.
        """
        for slot in sorted(self._slots.values(), key=lambda slot: not slot.users):
            if slot.is_loading or slot.is_loaded or slot.version.id not in self._slots:
                continue  # it was begun for the new runner, or has been freed meanwhile
            slot.is_loading = True
            try:
                await self._executor.load_adapter(slot.version.source)
            except AdapterError as error:
                self._refuse(slot, error)
            else:
                self._loaded(slot)
            finally:
                slot.is_loading = False
            self._sweep(slot.version.id)
        self._advance()

    def lost(self) -> None:
        """The runner is lost, with its adapters."""
        for slot in self._slots.values():
            slot.is_loaded = False

    def close(self) -> None:
        """End all loads."""
        for task in self._tasks:
            task.cancel()
        error = EngineDeadError("the server is shutting down")
        watched = [slot.watchers for slot in self._slots.values()]
        waiting = [[waiter.watcher] for waiter in self._waiters if waiter.watcher]
        for watcher in (watcher for watchers in (*watched, *waiting) for watcher in watchers):
            if not watcher.done():
                watcher.set_exception(error)

    def is_loaded(self, version: AdapterVersion) -> bool:
        """Whether the runner holds an adapter now."""
        slot = self._slots.get(version.id)
        return slot is not None and slot.is_loaded

    @property
    def versions(self) -> list[AdapterVersion]:
        """Those that have a slot."""
        return [slot.version for slot in self._slots.values()]

    def num_requests(self, version: AdapterVersion) -> int:
        """Requests that run with an adapter or wait for it."""
        slot = self._slots.get(version.id)
        waiting = sum(count for waiter, count in self.waiting() if waiter.id == version.id)
        return waiting + (len(slot.users) if slot is not None else 0)

    @property
    def num_loaded(self) -> int:
        return sum(slot.is_loaded for slot in self._slots.values())

    def running(self) -> Iterator[tuple[AdapterVersion, int]]:
        """Adapters with requests that have a slot, and how many these are."""
        for slot in self._slots.values():
            if slot.users:
                yield slot.version, len(slot.users)

    def waiting(self) -> Iterator[tuple[AdapterVersion, int]]:
        """Adapters with requests that wait for a slot, and how many; perhaps repeatedly."""
        for waiter in self._waiters:
            if waiter.requests:
                yield waiter.version, len(waiter.requests)

    def _line_up(self, waiter: _Waiter) -> None:
        """Put it into the line, behind those that came before; the background stands last."""
        place = len(self._waiters)
        if not waiter.in_background:
            ahead = (i for i, other in enumerate(self._waiters) if other.in_background)
            place = next(ahead, place)
        self._waiters.insert(place, waiter)
        self._advance()

    def _advance(self) -> None:
        """Give slots to the line, as far as there are any."""
        while self._waiters:
            waiter = self._waiters[0]
            slot = self._slots.get(waiter.version.id) or self._take_slot(waiter.version)
            if slot is None:
                return
            self._waiters.popleft()
            self._slots.move_to_end(slot.version.id)
            self._admit(waiter, slot)

    def _admit(self, waiter: _Waiter, slot: _Slot) -> None:
        slot.users |= waiter.requests
        for request_id in waiter.requests:
            del self._waiter_of[request_id]
            self._slot_of[request_id] = slot
        if waiter.watcher is not None:
            slot.watchers.append(waiter.watcher)
        if slot.is_loaded:
            self._finish_watchers(slot, None)
            self._on_ready(list(waiter.requests.values()))

    def _take_slot(self, version: AdapterVersion) -> _Slot | None:
        """A slot for an adapter that has none, and begin to load it; None: all are in use."""
        if len(self._slots) >= self.capacity:
            idle = [slot for slot in self._slots.values() if slot.is_idle]
            if not idle:
                return None
            # A discarded one is held, and its files may be gone.
            self._free(min(idle, key=lambda slot: slot.version.id in self._discarded))
            self.stats.evictions += 1
        slot = self._slots[version.id] = _Slot(version, is_loading=True)
        task = asyncio.create_task(self._load(slot))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return slot

    async def _load(self, slot: _Slot) -> None:
        begin = time.perf_counter()
        try:
            await self._executor.load_adapter(slot.version.source)
        except WorkerLostError:
            return  # `reload` comes, or the end of the engine
        except (AdapterError, EngineDeadError) as error:
            self._refuse(slot, error)
        else:
            self.stats.loaded(time.perf_counter() - begin)
            self._loaded(slot)
        finally:
            slot.is_loading = False
        self._sweep(slot.version.id)
        self._advance()

    def _loaded(self, slot: _Slot) -> None:
        slot.is_loaded = True
        self._finish_watchers(slot, None)
        if slot.users:
            self._on_ready(list(slot.users.values()))

    def _refuse(self, slot: _Slot, error: GlmserveError) -> None:
        """Take back a slot whose adapter cannot be loaded, and fail its requests."""
        self.stats.failures += 1
        name = slot.version.name
        logger.error("the adapter %r cannot be loaded: %s", name, error.message)
        del self._slots[slot.version.id]
        self._finish_watchers(slot, error)
        for request in list(slot.users.values()):
            self._on_refused(request, AdapterUnavailableError.of(name))

    def _finish_watchers(self, slot: _Slot, error: GlmserveError | None) -> None:
        watchers, slot.watchers = slot.watchers, []
        for watcher in watchers:
            if watcher.done():
                continue  # cancelled
            if error is None:
                watcher.set_result(None)
            else:
                watcher.set_exception(error)

    def _sweep(self, adapter_id: int) -> None:
        """Free the slot of an adapter that was discarded, if nothing uses it any more."""
        if adapter_id not in self._discarded or adapter_id in self._holds:
            return
        slot = self._slots.get(adapter_id)
        if slot is not None and not slot.is_idle:
            return
        if any(waiter.version.id == adapter_id for waiter in self._waiters):
            return
        self._discarded.remove(adapter_id)
        if slot is not None:
            self._free(slot)

    def _free(self, slot: _Slot) -> None:
        del self._slots[slot.version.id]
        self._executor.remove_adapter(slot.version.id)
