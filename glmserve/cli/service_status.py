"""What the server tells its service manager while it starts, runs and ends."""

from __future__ import annotations

import asyncio
import logging
import time

from glmserve.config import LoadProgress, SupervisionConfig
from glmserve.engine import Engine, EngineState
from glmserve.process.service_manager import ServiceManager

logger = logging.getLogger(__name__)

_LOADING_ALLOWANCE = 120.0
"""Seconds until the next report of loading. A load without progress ends by --load-timeout."""
_STOPPING_ALLOWANCE = 10.0
"""Seconds to end beside the time for draining."""
_LONGEST_INTERVAL = 1.0
"""Seconds between two looks at the engine."""


class ServiceStatus:
    """Tells the states of one server: STATUS, READY, STOPPING, WATCHDOG.

    Args:
        name: of the model that is served.
        supervision: time-outs of the worker. A service manager should be more patient than these.
    """

    def __init__(
        self,
        manager: ServiceManager,
        engine: Engine,
        name: str,
        supervision: SupervisionConfig,
    ) -> None:
        self._manager = manager
        self._engine = engine
        self._name = name
        self._load_timeout = supervision.load_timeout or _LOADING_ALLOWANCE
        if manager.watchdog and manager.watchdog <= supervision.step_timeout:
            logger.warning(
                "the service manager ends the server after %g s without progress (WatchdogSec), "
                "before a worker that hangs is replaced (--step-timeout %g)",
                manager.watchdog,
                supervision.step_timeout,
            )
        self._status = ""
        self._steps_seen = -1
        self._next_report = 0.0  # of loading, on time.monotonic()

    def loading(self, progress: LoadProgress) -> None:
        """Tell how far the model has loaded, once a second at most."""
        now = time.monotonic()
        if now < self._next_report:
            return
        self._next_report = now + 1
        share = f", {progress.done / progress.total:.0%}" if progress.total else ""
        self._manager.extend_timeout(
            self._load_timeout + _STOPPING_ALLOWANCE, STATUS=f"loading: {progress.phase}{share}"
        )

    def ready(self) -> None:
        """Tell that the model has generated its first token."""
        self._status = f"serving {self._name}"
        self._manager.tell(READY=1, STATUS=self._status)

    def stopping(self, drain_timeout: float) -> None:
        """Tell that the server drains, for `drain_timeout` seconds at most."""
        self._status = f"draining for at most {drain_timeout:g} s"
        allowance = drain_timeout + _STOPPING_ALLOWANCE
        self._manager.extend_timeout(allowance, STOPPING=1, STATUS=self._status)

    async def watch(self) -> None:
        """Tell signs of life and changes of the engine's state, for ever."""
        if not self._manager.listens:
            return
        watchdog = self._manager.watchdog
        interval = min(_LONGEST_INTERVAL, watchdog / 4) if watchdog else _LONGEST_INTERVAL
        while True:
            if watchdog and self._is_alive():
                self._manager.tell(WATCHDOG=1)
            self._tell_changes()
            await asyncio.sleep(interval)

    def _is_alive(self) -> bool:
        """Whether the engine gets on, or has nothing to do. While a worker loads, the server's own
        time-outs end a load that does not get on."""
        engine, steps = self._engine, self._engine.stats.num_steps
        gets_on = steps != self._steps_seen or not engine.is_busy
        self._steps_seen = steps
        return gets_on or engine.state is not EngineState.READY

    def _tell_changes(self) -> None:
        engine = self._engine
        if engine.is_draining:
            return
        if engine.missing_machine:
            status = f"waiting: {engine.missing_machine}"
            if engine.state is EngineState.LOADING:  # else a timeout would end the wait
                self._manager.extend_timeout(_LOADING_ALLOWANCE)
        elif engine.state is EngineState.RESTARTING:
            status = f"replacing the worker, which {engine.loss}"
        elif engine.state is EngineState.READY:
            status = f"serving {self._name}"
        else:
            return
        if status != self._status:
            self._status = status
            self._manager.tell(STATUS=status)
